//! Keeps the CNI configuration, from which containerd connects pods: with it the node becomes Ready.
//!
//! reads: machine config, nodes (this machine's pod networks), overlays (the MTU)   writes: /etc/cni/net.d/10-corten.conflist

mod plan;
mod render;

use std::sync::Arc;

use ipnet::IpNet;
use machine::Root;
use machine::config::Config;
use machine::file::File;

use crate::controller::{Controller, Wake};
use crate::files;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::NodeStatus;
use crate::resources::overlay::OverlayStatus;
use plan::{Action, Seen};
pub use render::{BRIDGE, NETWORK};

#[derive(Debug)]
pub struct Cni;

impl Controller for Cni {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "cni";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let config: Option<Arc<Config>> = node.config().map(|applied| applied.config);
        let pod_cidrs: Vec<IpNet> = node.store.all::<NodeStatus>().into_values().flat_map(|node| node.pod_cidrs).collect();
        let present = std::fs::read(node.root.cni_config()).ok();
        let network = config.map(|config| config.cluster.network.clone());
        // A pod has both families on one link.
        let overlay_mtu = node.store.all::<OverlayStatus>().into_values().map(|overlay| overlay.mtu).min();
        Ok(Seen { root: node.root.clone(), network, pod_cidrs, overlay_mtu, present })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Write(file) => files::write_if_changed(&file).map(drop),
            Action::Remove => files::remove(&node.root.cni_config()),
        }
    }
}

/// The file as it is to be on a machine.
fn file(root: &Root, contents: Vec<u8>) -> File {
    File { path: root.cni_config(), mode: 0o644, account: machine::account::Account::Root, contents }
}

#[cfg(test)]
mod tests;
