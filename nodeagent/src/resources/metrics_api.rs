//! Who answers metrics.k8s.io and custom.metrics.k8s.io.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A control plane's agent, as this one knows it; by the node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsServer {
    pub state: ServerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerState {
    /// This machine's: it has all that answers take.
    Answering,
    /// This machine's: it waits for nodes or pods to be told.
    Starting,
    /// Another's: it tells of itself.
    Heard,
    /// Another's: nothing was heard of it for a second, or it takes no calls.
    Silent,
    /// Another's: it has had no time to tell anything yet.
    Unknown,
}

impl Resource for MetricsServer {
    const KIND: &'static str = "metricsservers";
}

/// An API, by its group's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsApi {
    /// `corten`, or who else has it: `kube-system/metrics-server`, or a manifest of the config's.
    pub served_by: String,
    /// What the API server says of it, where it is not available; empty where it is.
    pub message: String,
}

impl Resource for MetricsApi {
    const KIND: &'static str = "metricsapis";
}
