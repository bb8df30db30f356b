//! What the machine does about the cluster's network policies.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A NetworkPolicy, named `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyStatus {
    pub state: PolicyState,
    /// Whether it decides what its pods may receive.
    pub ingress: bool,
    /// Whether it decides what they may send.
    pub egress: bool,
    /// Those of this machine's pods that it is about.
    pub pods: Vec<String>,
    /// Which of its rules are not understood; empty when all are.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyState {
    Enforced,
    /// Some of its rules are not understood, and allow nothing. Its pods are isolated all the same.
    Refused,
}

impl Resource for NetworkPolicyStatus {
    const KIND: &'static str = "networkpolicies";
}
