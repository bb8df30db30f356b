//! Takes from outside what the cluster needs and what the machine config allows, and refuses everything else.
//!
//! One table of nftables, ours alone, at the input hook: packets to and from pods are forwarded and do not pass there. Connections that there are
//! go on, whatever changes. An agent that starts anew keeps the table until its own takes its place, in one transaction.
//!
//! reads: machine config, hostname, clusternodes   writes: table inet corten-firewall, firewallrules

mod openings;
mod plan;
mod render;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::nft;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::network::{FirewallRule, Hostname};
use crate::resources::overlay::ClusterNode;
use plan::{Action, Kernel, Seen};

/// How often somebody else's hands on the table may go unseen.
const LOOK_AT_KERNEL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Firewall {
    /// The cluster's machines, as they were known last.
    nodes: BTreeSet<IpAddr>,
    /// The rules that were loaded last, and the table as the kernel showed it then.
    made: Option<(String, String)>,
    kernel: Kernel,
    looked_at_kernel: Option<Instant>,
}

impl Firewall {
    async fn look_at_kernel(&mut self, node: &Node) -> anyhow::Result<()> {
        if self.looked_at_kernel.is_some_and(|looked| looked.elapsed() < LOOK_AT_KERNEL) {
            return Ok(());
        }
        let present = nft::list(&node.root, render::TABLE).await?;
        if let (Some(present), None) = (&present, &self.made) {
            self.nodes = render::nodes(present);
        }
        self.kernel = match (present, &self.made) {
            (None, _) => Kernel::Nothing,
            (Some(present), Some((rules, shown))) if present == *shown => Kernel::Rules(rules.clone()),
            (Some(_), _) => Kernel::Unknown,
        };
        self.looked_at_kernel = Some(Instant::now());
        Ok(())
    }

    /// All of them are on the board once this machine's own is.
    fn look_at_nodes(&mut self, node: &Node) {
        let own = node.store.get::<Hostname>(Hostname::NAME).map(|name| name.hostname).unwrap_or_default();
        let nodes = node.store.all::<ClusterNode>();
        if nodes.contains_key(&own) {
            self.nodes = nodes.into_values().flat_map(addresses).collect();
        }
    }
}

/// Where a node's packets may come from: its own addresses, and its end of the overlay.
fn addresses(node: ClusterNode) -> impl Iterator<Item = IpAddr> {
    let ends = node.announcement.into_iter().flat_map(|announcement| announcement.ends).map(|end| end.address);
    node.addresses.into_iter().chain(ends)
}

impl Controller for Firewall {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "firewall";
    const WAKE: Wake = Wake::WhatItReads;
    const LOOK_AGAIN: Duration = LOOK_AT_KERNEL;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let config = node.config().map(|applied| applied.config);
        self.look_at_kernel(node).await?;
        self.look_at_nodes(node);
        Ok(Seen { config, nodes: self.nodes.clone(), kernel: self.kernel.clone(), told: node.store.all::<FirewallRule>() })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Load(rules) => {
                (self.kernel, self.looked_at_kernel) = (Kernel::Unknown, None);
                nft::load(&node.root, &rules).await?;
                self.made = nft::list(&node.root, render::TABLE).await?.map(|shown| (rules.clone(), shown));
                (self.kernel, self.looked_at_kernel) = (Kernel::Rules(rules), Some(Instant::now()));
            }
            Action::Remove => {
                nft::remove(&node.root, render::TABLE).await?;
                (self.kernel, self.made) = (Kernel::Nothing, None);
            }
            Action::Tell(rules) => node.store.replace(rules),
        }
        Ok(())
    }
}
