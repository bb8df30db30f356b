//! How a machine that joins a cluster stands with it.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// One object, `cluster`; none on the control plane that made the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinStatus {
    pub state: JoinState,
    /// Why it does not go on, in one word; empty where it does.
    pub reason: String,
    /// The same in words, with what to do.
    pub message: String,
    /// The control plane that answered last.
    pub through: String,
    /// Failures in a row.
    pub tries: u32,
    /// When it is tried again, RFC 3339; empty where nothing failed.
    pub retry_at: String,
    /// By how much the control plane's clock was ahead of this machine's, in seconds.
    pub clock_offset_seconds: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JoinState {
    #[default]
    Joining,
    Joined,
}

impl Resource for JoinStatus {
    const KIND: &'static str = "joins";
}

impl JoinStatus {
    pub const NAME: &'static str = "cluster";
}
