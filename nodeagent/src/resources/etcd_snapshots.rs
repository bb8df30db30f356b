//! Snapshots of etcd that this machine takes by itself.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// One object, `schedule`, on a control plane whose turn it is at times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSchedule {
    /// Directory or bucket.
    pub place: String,
    /// The newest one that is there; empty before the first.
    pub last: String,
    /// Of the one that was taken in this boot.
    pub bytes: u64,
    pub kept: u64,
    pub next_in_seconds: u64,
    /// Why none can be taken now; empty while all is well.
    pub error: String,
}

impl Resource for SnapshotSchedule {
    const KIND: &'static str = "etcdsnapshots";
}

impl SnapshotSchedule {
    pub const NAME: &'static str = "schedule";
}
