//! How well each node of the cluster would do with one more pod, as a control plane sees it.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// By the node's name. Shares are of 1, and rounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeScore {
    /// 0 to 10.
    pub score: u8,
    /// Of CPU and memory the scarcer.
    pub headroom: f64,
    /// What the pressures leave.
    pub calm: f64,
    pub cpu: f64,
    pub memory: f64,
    pub cpu_some: f64,
    pub memory_full: f64,
    pub io_full: f64,
    /// CPUs that pods on their way here will take.
    pub pending_cpus: f64,
    /// Nothing was heard of it for so long that its figures do not count.
    pub stale: bool,
}

impl Resource for NodeScore {
    const KIND: &'static str = "scores";
}
