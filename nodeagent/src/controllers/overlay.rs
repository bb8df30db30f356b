//! The overlay: carries pods' packets to other machines by VXLAN, by WireGuard or over a shared link, programmed by netlink, and tells other
//! machines how to reach this one.
//!
//! One device a family; for each peer a route and what the route needs, all permanent: the kernel learns and asks nothing. What carries
//! somebody else's mark is left alone.
//!
//! reads: machine config, hostname, node IPs, clusternodes, the kernel   writes: the kernel, overlays, overlaypeers; annotations of the Node

mod apply;
mod batch;
#[cfg(test)]
mod beside_flannel;
#[cfg(test)]
mod direct;
pub mod flannel;
#[cfg(test)]
mod flanneld;
mod kernel;
#[cfg(test)]
mod many;
#[cfg(test)]
mod measured;
#[cfg(test)]
mod members;
mod message;
#[cfg(test)]
mod of_a_cluster;
#[cfg(test)]
mod packets;
pub mod paths;
mod peers;
mod plan;
pub mod reach;
mod state;
#[cfg(test)]
mod tests;
mod wireguard;

use controlplane::pki::CertificateId;

use super::machine::Machine;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::link::Link;
use crate::resources::network::{Address, Route};
use crate::resources::overlay::{ClusterNode, OverlayPeer, OverlayStatus};
use crate::store::Resource;
use plan::{Action, Seen};

#[derive(Debug)]
pub struct Overlay {
    netlink: rtnetlink::Handle,
    keyring: Keyring,
}

impl Overlay {
    pub fn new() -> anyhow::Result<Overlay> {
        Ok(Overlay { netlink: super::network::connect()?, keyring: Keyring::default() })
    }
}

impl Controller for Overlay {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "overlay";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        // The kernel is asked itself; that it has something new to say is read off the board.
        for kind in [Link::KIND, Address::KIND, Route::KIND] {
            node.store.list(kind);
        }
        Ok(Seen {
            machine: Machine::observe(node),
            machine_id: std::fs::read_to_string(node.root.machine_id()).unwrap_or_default(),
            nodes: node.store.all::<ClusterNode>(),
            kernel: kernel::read(&self.netlink).await?,
            overlays: node.store.all::<OverlayStatus>(),
            peers: node.store.all::<OverlayPeer>(),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let kubelet = || self.keyring.get(node, CertificateId::KubeletClient);
        apply::apply(action, node, &self.netlink, kubelet).await
    }
}
