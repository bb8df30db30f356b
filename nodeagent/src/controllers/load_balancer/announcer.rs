//! Announces the addresses of Services that this machine was chosen for: they are on the link of its node IP, where the kernel answers for them, and
//! kube-proxy's rules take the packets. The kernel forgets them soon after an agent that hangs or dies. While no API server answers, what was
//! known last goes on.
//!
//! reads: machine config, hostname, node IPs; Services of the cluster, the kernel   writes: the addresses, loadbalanceraddresses; gratuitous ARP or
//! unsolicited neighbour advertisements

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::view::{State, View};
use crate::controller::{Controller, Wake};
use crate::controllers::machine::Machine;
use crate::controllers::network::connect;
use crate::controllers::shared_address::{Kernel, Place, announce, hold, remove};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::load_balancer::LoadBalancerAddress;
use plan::{Action, Seen};

/// How often the kernel is told to keep them.
const BEAT: Duration = Duration::from_secs(3);
/// How long the kernel keeps them after that, in seconds: an agent that is started anew finds them still there.
const LIFETIME: u32 = 12;
/// For as long as another machine's kernel may still have the address, neighbours are told that it is here.
const ANNOUNCEMENTS: u32 = 6;

#[derive(Debug)]
pub struct Announcer {
    netlink: rtnetlink::Handle,
    view: View,
    changes: signal::Receiver<State>,
    /// What is held, and how often the neighbours have heard of it.
    held: BTreeMap<IpAddr, u32>,
    renewed: Option<Instant>,
}

impl Announcer {
    pub fn new(view: View) -> anyhow::Result<Announcer> {
        let changes = view.changes();
        Ok(Announcer { netlink: connect()?, view, changes, held: BTreeMap::new(), renewed: None })
    }

    async fn hold(&mut self, address: IpAddr, place: &Place, node: &Node) -> anyhow::Result<()> {
        hold(&self.netlink, address, place, LIFETIME).await?;
        let told = self.held.entry(address).or_default();
        if !place.present {
            *told = 0;
        }
        if *told < ANNOUNCEMENTS {
            announce(address, &place.link)?;
            if *told == 0 {
                node.events.emit("loadbalancer", "Announced", format!("{address} is on {}", place.link));
            }
            *told += 1;
        }
        Ok(())
    }
}

impl Controller for Announcer {
    type Seen = Seen;
    type Action = Vec<Action>;
    const NAME: &'static str = "announcer";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        match self.renewed {
            Some(renewed) if !self.held.is_empty() => BEAT.saturating_sub(renewed.elapsed()).max(Duration::from_millis(50)),
            _ => Self::LOOK_AGAIN,
        }
    }

    async fn woken(&mut self) {
        // Its sender is the view, which this controller has too.
        let _ = self.changes.changed().await;
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        self.changes.mark_unchanged();
        let services = self.view.picture().services;
        let told = node.store.all::<LoadBalancerAddress>();
        let pools = machine.as_ref().map(|machine| machine.config.cluster.network.load_balancer.clone()).unwrap_or_default();
        if pools.pools.is_empty() && self.held.is_empty() {
            return Ok(Seen { told, ..Seen::without_pools(machine) });
        }
        let kernel = Kernel::read(&self.netlink).await?;
        let node_ips = machine.as_ref().map(|machine| machine.facts.node_ips.clone()).unwrap_or_default();
        let in_pool = |address: &IpAddr| pools.has(*address) && !node_ips.contains(address);
        let there: BTreeSet<IpAddr> = kernel.single().into_iter().filter(in_pool).collect();
        let of_services = services.iter().flat_map(|services| services.values()).flat_map(|service| &service.addresses);
        let all = of_services.filter(|address| in_pool(address)).chain(&there).chain(self.held.keys());
        let places = all.map(|address| (*address, kernel.place(*address, &node_ips))).collect();
        let renewal_due = self.renewed.is_none_or(|renewed| renewed.elapsed() >= BEAT);
        Ok(Seen { machine, services, places, there, held: self.held.keys().copied().collect(), renewal_due, told })
    }

    fn plan(&self, seen: &Seen) -> Plan<Vec<Action>> {
        plan::plan(seen)
    }

    /// All of them, also when one goes wrong.
    async fn apply(&mut self, actions: Vec<Action>, node: &Node) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        for action in actions {
            let done = match action {
                Action::Hold(address, place) => self.hold(address, &place, node).await,
                Action::Remove(address, place) => {
                    self.held.remove(&address);
                    node.events.emit("loadbalancer", "Released", format!("{address} is no longer on {}", place.link));
                    remove(&self.netlink, address, &place).await
                }
                Action::Renewed => {
                    self.renewed = Some(Instant::now());
                    Ok(())
                }
                Action::Tell(addresses) => {
                    node.store.replace(addresses);
                    Ok(())
                }
            };
            problems.extend(done.err().map(|error| format!("{error:#}")));
        }
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
    }
}

#[cfg(test)]
pub mod tests;
