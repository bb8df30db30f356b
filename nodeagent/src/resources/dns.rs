//! How many replicas the cluster's DNS has, and who says so.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// One object, `coredns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsScale {
    /// As the Deployment has it.
    pub replicas: i32,
    /// What a cluster of this size would have.
    pub fitting: i32,
    /// Who decides: `corten`, or the field manager that scaled the Deployment last.
    pub decided_by: String,
    pub nodes: u64,
}

impl Resource for DnsScale {
    const KIND: &'static str = "dnsscales";
}

impl DnsScale {
    /// Name of the only one.
    pub const NAME: &'static str = "coredns";
}
