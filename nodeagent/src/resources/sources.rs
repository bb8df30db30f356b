//! Where a machine in maintenance looks for its first config, and what it found there.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A source of configs, named as in `sources::plan`: `nocloud`, `aws`, ...
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSource {
    /// Where it is looked for, or was found: `volume labelled cidata`, `/dev/sr0`, an URL.
    pub place: String,
    pub result: Outcome,
    /// What went wrong or was found; empty where there is nothing to say.
    pub message: String,
    /// When it was asked last, RFC 3339, UTC; empty before the first time.
    pub tried_at: String,
    /// How often it was asked in this boot.
    pub tries: u64,
}

/// What came of asking a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Not asked yet.
    Waiting,
    /// It is never asked in this boot.
    PassedOver,
    /// It cannot be asked; it will be again.
    Unreachable,
    /// It holds no config.
    Nothing,
    /// It holds something that was not taken.
    Refused,
    /// The config in force is from there.
    Applied,
}

impl Resource for ConfigSource {
    const KIND: &'static str = "configsources";
}
