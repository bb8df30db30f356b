//! Relieves nodes under lasting pressure, where the machine config of the control planes wants it: one pod at a time is evicted, and made again
//! where there is room. Off by default; a dry run tells what would be done.
//!
//! One control plane decides, elected in etcd. Evictions go through the Eviction API, so that disruption budgets hold, under an identity that may
//! do no more than that; two pauses bound how often. Nothing is evicted that nobody would make again, or that would lose data (`evictable`).
//!
//! reads: machine config, hostname, node IPs, certificates, API servers, manifestsets, clusternodes, scores, etcd, pods, other agents' metrics
//! writes: evictions, Kubernetes events, events, rebalancing

mod ask;
mod evict;
mod evictable;
mod history;
mod plan;
mod source;

use std::time::Duration;

use super::leader::{BEAT, Leader, Seat};
use super::machine::Machine;
use super::pressure_taints::may_write;
use crate::clock;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::overlay::ClusterNode;
use crate::resources::pressure::Rebalancing;
use crate::resources::scores::NodeScore;
pub use ask::Agents;
use ask::Uses;
use history::History;
use plan::{Action, Done, Seen};

const SEAT: &str = "rebalancer";

/// `U` tells what pods use: the agents of their nodes do.
#[derive(Debug)]
pub struct Rebalancer<U> {
    uses: U,
    leader: Leader,
    leads: bool,
    takes_part: bool,
    history: History,
    done: Done,
}

impl<U: Uses> Rebalancer<U> {
    pub fn new(uses: U) -> Rebalancer<U> {
        let (leader, history) = (Leader::new(SEAT), History::default());
        Rebalancer { uses, leader, leads: false, takes_part: false, history, done: Done::default() }
    }
}

impl<U: Uses> Controller for Rebalancer<U> {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "rebalancer";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.takes_part { BEAT } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let may_write = machine.as_ref().is_ok_and(|machine| may_write(node, machine));
        let now = i64::try_from(clock::wall_seconds()).unwrap_or(i64::MAX);
        let mut seen = Seen {
            machine,
            may_write,
            seat: self.leads.then_some(Seat::Ours),
            nodes: node.store.all::<ClusterNode>(),
            scores: node.store.all::<NodeScore>(),
            history: self.history.clone(),
            now,
            pods: None,
            done: self.done.clone(),
            told: node.store.get::<Rebalancing>(Rebalancing::NAME),
        };
        self.takes_part = plan::wanted(&seen).is_some() && may_write;
        let Ok(machine) = seen.machine.as_ref() else { return Ok(seen) };
        if !self.takes_part {
            return Ok(seen);
        }
        let seat = self.leader.seek(node, machine).await?;
        if seat == Seat::Ours && !self.leads {
            self.history = History::began(now);
            seen.history = self.history.clone();
        }
        self.leads = seat == Seat::Ours;
        seen.seat = Some(seat);
        if let Some(source) = plan::source(&seen) {
            let address = seen.nodes.get(&source.node).and_then(|node| node.addresses.first().copied());
            let asked = ask::pods(&self.uses, node, machine, &source, address, now).await;
            seen.pods = Some(asked.map_err(|error| format!("{error:#}")));
        }
        Ok(seen)
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Tell(Some(status)) => node.store.put(Rebalancing::NAME, &status),
            Action::Tell(None) => node.store.remove::<Rebalancing>(Rebalancing::NAME),
            Action::Leave => {
                self.leads = false;
                if let Ok(machine) = Machine::observe(node) {
                    self.leader.leave(node, &machine).await;
                }
            }
            Action::Evict(eviction) => {
                // Another control plane may hold the seat by now.
                if !self.leader.may_act() {
                    return Ok(());
                }
                let now = i64::try_from(clock::wall_seconds()).unwrap_or(i64::MAX);
                // Noted first: what fails is not tried again at once.
                self.history.evicted(&eviction.node, &eviction.owner, now);
                let outcome = evict::evict(node, &eviction).await?;
                self.done.evicted += u64::from(outcome.is_done());
                self.done.last = outcome.text(&eviction);
                node.events.emit("rebalancer", outcome.reason(&eviction), self.done.last.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod real;
