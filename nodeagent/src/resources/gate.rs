//! How far the image that is on trial has come with its proof.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// The health gate; one object, `gate`, and none in a boot that is no trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// `watching`, `blessed` or `failed`.
    pub state: String,
    /// Checks that do not pass, with what they say.
    pub waits_for: Vec<String>,
    /// Checks that do not pass and are not held against the image, since the cluster was out of reach before the upgrade.
    pub excused: Vec<String>,
    /// Since when all checks pass, in seconds after the boot.
    pub good_since_seconds: Option<u64>,
    /// How long they must.
    pub hold_seconds: u64,
    /// When the wait ends, in seconds after the boot.
    pub deadline_seconds: u64,
}

impl Resource for GateStatus {
    const KIND: &'static str = "gates";
}

impl GateStatus {
    pub const NAME: &'static str = "gate";
}
