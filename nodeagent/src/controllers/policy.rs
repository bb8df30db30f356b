//! Enforces the cluster's NetworkPolicies (networking.k8s.io/v1) for this machine's pods, by one table of nftables, ours alone.
//!
//! Policies decide which connections are made; packets of those that were follow. A change touches what differs and nothing else, and
//! connections that it forbids are ended.
//!
//! reads: machine config, hostname, node IPs, nodes, addresses; policies, namespaces and pods of the cluster   writes: table inet
//! corten-policy, the kernel's connections, networkpolicies

mod cluster;
mod compile;
mod conntrack;
mod networks;
#[cfg(test)]
mod of_a_cluster;
mod plan;
mod pod;
mod render;
mod sandboxes;
mod selector;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::machine::{Machine, missing};
use super::nft;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::NodeStatus;
use crate::resources::network::Address;
use crate::resources::policy::NetworkPolicyStatus;
use cluster::Cluster;
use compile::{Compiled, Own};
use plan::{Action, Kernel, Seen};
use view::State;
pub use view::View;
pub use watch::follow;

/// Changes of so long a time go to the kernel together.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often somebody else's hands on the table may go unseen.
const LOOK_AT_KERNEL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Policies {
    view: View,
    changes: signal::Receiver<State>,
    /// What was compiled last, and of what.
    compiled: Option<(Arc<Cluster>, Own, Arc<Compiled>)>,
    kernel: Kernel,
    /// The chains as the kernel showed them after the last change.
    outline: Option<String>,
    looked_at_kernel: Option<Instant>,
    changed: Option<Instant>,
    uncut: bool,
    told: Option<Arc<Compiled>>,
}

impl Policies {
    pub fn new(view: View) -> Policies {
        let changes = view.changes();
        Policies {
            view,
            changes,
            compiled: None,
            kernel: Kernel::Unknown,
            outline: None,
            looked_at_kernel: None,
            changed: None,
            uncut: false,
            told: None,
        }
    }

    /// The table for what is known now; a table that was made of the same stays the same.
    fn wanted(&mut self, node: &Node) -> Result<Arc<Compiled>, Vec<Missing>> {
        let machine = Machine::observe(node)?;
        let status = node.store.get::<NodeStatus>(&machine.facts.node_name);
        let pod_networks = status.map(|status| status.pod_cidrs).unwrap_or_default();
        self.changes.mark_unchanged();
        let (cluster, listed) = self.view.picture();
        let alone = cluster.policies.is_empty();
        let lacks = missing([
            (!pod_networks.is_empty(), "pod networks of this node (spec.podCIDRs)"),
            (listed.policies, "network policies of the cluster"),
            (alone || listed.namespaces, "namespaces of the cluster"),
            (alone || listed.pods, "pods of the cluster"),
        ]);
        if !lacks.is_empty() {
            return Err(lacks);
        }
        let own = Own { node: machine.facts.node_name, pod_networks };
        if let Some((known, by, compiled)) = &self.compiled
            && Arc::ptr_eq(known, &cluster)
            && *by == own
        {
            return Ok(compiled.clone());
        }
        let compiled = Arc::new(compile::compile(&cluster, &own));
        self.compiled = Some((cluster, own, compiled.clone()));
        Ok(compiled)
    }

    /// Whether the kernel still has what it was given.
    async fn look_at_kernel(&mut self, node: &Node) -> anyhow::Result<()> {
        if self.looked_at_kernel.is_some_and(|looked| looked.elapsed() < LOOK_AT_KERNEL) {
            return Ok(());
        }
        let outline = nft::outline(&node.root, render::TABLE).await?;
        self.kernel = match (&outline, &self.kernel) {
            (None, _) => Kernel::Nothing,
            (Some(_), Kernel::Table(table)) if outline == self.outline => Kernel::Table(table.clone()),
            (Some(_), _) => Kernel::Unknown,
        };
        self.looked_at_kernel = Some(Instant::now());
        Ok(())
    }

    async fn load(&mut self, node: &Node, commands: &str, result: Arc<Compiled>) -> anyhow::Result<()> {
        self.kernel = Kernel::Unknown;
        self.changed = Some(Instant::now());
        nft::load(&node.root, commands).await?;
        self.outline = nft::outline(&node.root, render::TABLE).await?;
        self.looked_at_kernel = Some(Instant::now());
        self.kernel = Kernel::Table(result);
        Ok(())
    }
}

impl Controller for Policies {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "policy";
    const WAKE: Wake = Wake::WhatItReads;
    const LOOK_AGAIN: Duration = LOOK_AT_KERNEL;

    async fn woken(&mut self) {
        // Its sender is the view, which this controller has too.
        let _ = self.changes.changed().await;
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        if let Some(changed) = self.changed {
            tokio::time::sleep_until(changed + TOGETHER).await;
        }
        self.look_at_kernel(node).await?;
        let wanted = self.wanted(node);
        let told = match (&self.told, &wanted) {
            (Some(told), Ok(wanted)) => Arc::ptr_eq(told, wanted) || told.told == wanted.told,
            _ => false,
        };
        let network = node.config().map(|applied| applied.config.cluster.network.clone());
        Ok(Seen { network, wanted, kernel: self.kernel.clone(), uncut: self.uncut, told })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Remove => {
                nft::remove(&node.root, render::TABLE).await?;
                (self.kernel, self.uncut) = (Kernel::Nothing, false);
            }
            Action::Load { commands, result, narrows } => {
                self.uncut |= narrows;
                self.load(node, &commands, result).await?;
            }
            Action::Cut(compiled) => {
                let own: BTreeSet<IpAddr> = node.store.all::<Address>().values().map(|address| address.address.addr()).collect();
                // What the machine says and hears itself is not forwarded.
                let is_forwarded = |flow: &table::Flow| !own.contains(&flow.from) && !own.contains(&flow.to);
                let cut = conntrack::forget(|flow| is_forwarded(&flow) && !compiled.table.allows(flow)).await?;
                self.uncut = false;
                tracing::debug!("{cut} connections are forbidden now, and end");
            }
            Action::Tell(compiled) => {
                node.store.replace::<NetworkPolicyStatus>(compiled.told.clone());
                self.told = Some(compiled);
            }
        }
        Ok(())
    }
}
