//! The cluster's virtual IP, as this machine sees it.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// Named by the address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualIp {
    /// Node that etcd says holds it; empty where this machine does not know.
    pub holder: String,
    /// Whether this machine has it.
    pub held: bool,
    /// On which of its links.
    pub link: String,
}

impl Resource for VirtualIp {
    const KIND: &'static str = "virtualips";
}
