//! Addresses of Services of type LoadBalancer, as this machine sees them.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// Named by the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerAddress {
    /// `<namespace>/<name>`.
    pub service: String,
    /// The Node that is to announce it; empty where there is none.
    pub node: String,
    pub state: AddressState,
    /// On which of this machine's links it is.
    pub link: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressState {
    /// By this machine.
    Announced,
    /// By another one.
    Elsewhere,
    /// This machine is to, and has no link with a node IP of its family.
    NoLink,
    /// No node can: none that answers is ready and, where the Service wants it, has an endpoint.
    Nobody,
}

impl Resource for LoadBalancerAddress {
    const KIND: &'static str = "loadbalanceraddresses";
}
