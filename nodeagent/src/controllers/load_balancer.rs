//! Gives Services of type LoadBalancer addresses of the machine config's pools, and says which Node announces them.
//!
//! One control plane decides, elected in etcd, and writes both to the Services themselves: they are the record, and every machine learns there what
//! it has to announce (`announcer`). That one decides rather than each machine for itself is for the nodes that do not answer: to see that in
//! seconds somebody has to ask them (`answering`), and one who asks costs less than all asking all, and does not come to two answers.
//!
//! reads: machine config, hostname, node IPs, certificates, API servers, manifestsets, clusternodes, etcd; Services and EndpointSlices of the
//! cluster, other agents   writes: status of Services, Kubernetes events

mod allocate;
pub mod announcer;
mod answering;
mod apply;
mod choose;
mod endpoints;
mod follow;
mod plan;
mod service;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use machine::stage::Stage;
use tokio::sync::watch as signal;
use tokio::time::timeout;

use super::api;
use super::leader::{BEAT, Leader, Seat};
use super::machine::Machine;
use super::pressure_taints::may_write;
use super::watch;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::overlay::ClusterNode;
pub use answering::Agents;
use plan::{Action, Seen};
use service::Key;
use view::State;
pub use view::View;

const SEAT: &str = "loadbalancer";
/// Of one write: less than what a holder of the seat has left when it begins (`leader`).
const DEADLINE: Duration = Duration::from_secs(3);

/// Follows what it has to know, for as long as the agent lives.
pub async fn follow(node: Node, view: View, asks: impl answering::Ask) {
    tokio::join!(
        watch::follow(follow::Following::new(view.clone()), node.clone()),
        watch::follow(endpoints::Following::new(view.clone()), node.clone()),
        answering::follow(node, view, asks),
    );
}

#[derive(Debug)]
pub struct LoadBalancer {
    view: View,
    changes: signal::Receiver<State>,
    leader: Leader,
    takes_part: bool,
    /// The uids of Services that have addresses from here.
    assigned: BTreeMap<Key, String>,
    /// What each Service was told last, by its uid.
    told: BTreeMap<String, String>,
}

impl LoadBalancer {
    pub fn new(view: View) -> LoadBalancer {
        let changes = view.changes();
        LoadBalancer { view, changes, leader: Leader::new(SEAT), takes_part: false, assigned: BTreeMap::new(), told: BTreeMap::new() }
    }

    fn leads(&mut self, leads: bool) {
        if !leads {
            self.told.clear();
            self.assigned.clear();
        }
        self.view.update(|state| {
            state.leads = leads;
            if !leads {
                state.listed.clear();
            }
        });
    }

    async fn one(&mut self, action: Action, client: &kube::Client, node: &Node, control_plane: &str) -> anyhow::Result<()> {
        let of = action.service().cloned().unwrap_or_default();
        let written = match action {
            Action::Set { service, uid, addresses, node: to } => {
                let written = apply::set(client, &service, &uid, &addresses, to.as_deref()).await?;
                let told = to.as_ref().map_or("nobody", String::as_str);
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                node.events.emit(format!("service/{service}"), "Assigned", format!("{told} announces {:?}", addresses.join(", ")));
                written
            }
            Action::Clear { service, uid } => {
                // What is gone, or another one by now, has nothing to be cleared of.
                if let Err(error) = apply::set(client, &service, &uid, &[], None).await {
                    tracing::info!("{error:#}");
                }
                self.assigned.remove(&service);
                return Ok(());
            }
            Action::Tell { service, uid, problem } => {
                if problem.is_empty() {
                    self.told.remove(&uid);
                    return Ok(());
                }
                apply::tell(client, &service, &uid, &problem, control_plane).await?;
                node.events.emit(format!("service/{service}"), "NoAddress", problem.clone());
                self.told.insert(uid, problem);
                return Ok(());
            }
            Action::Leave => return Ok(()),
        };
        // The watch will tell the same in a moment; told now, it is not done twice.
        match written {
            Some(written) => follow::put(&self.view, &written),
            None => follow::remove(&self.view, &of),
        }
        Ok(())
    }
}

impl Controller for LoadBalancer {
    type Seen = Seen;
    type Action = Vec<Action>;
    const NAME: &'static str = "loadbalancer";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.takes_part { BEAT } else { Self::LOOK_AGAIN }
    }

    async fn woken(&mut self) {
        // Its sender is the view, which this controller has too.
        let _ = self.changes.changed().await;
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let stays = !matches!(node.stage(), Stage::Rebooting | Stage::ShuttingDown | Stage::Resetting);
        let may_write = stays && machine.as_ref().is_ok_and(|machine| may_write(node, machine));
        let leads = match &machine {
            Ok(machine) if may_write && plan::wanted(machine) => {
                self.takes_part = true;
                let seat = self.leader.seek(node, machine).await;
                self.leads(matches!(seat, Ok(Seat::Ours)));
                Some(seat? == Seat::Ours)
            }
            _ => {
                self.leads(false);
                std::mem::take(&mut self.takes_part).then_some(true)
            }
        };
        if machine.as_ref().is_ok_and(|machine| machine.config.cluster.network.load_balancer.pools.is_empty()) {
            follow::forget(&self.view);
        }
        self.changes.mark_unchanged();
        let cluster = self.view.picture();
        let services = || cluster.services.iter().flat_map(|services| services.iter());
        let uids: BTreeSet<&String> = services().map(|(_, service)| &service.uid).collect();
        self.told.retain(|uid, _| uids.contains(uid));
        if leads == Some(true) {
            let served = services().filter(|(_, service)| service.announcer.is_some() && service.written_by.is_none());
            let new = served.filter(|(key, _)| !self.assigned.contains_key(key));
            let new: Vec<(Key, String)> = new.map(|(key, service)| (key.clone(), service.uid.clone())).collect();
            self.assigned.extend(new);
        }
        let nodes = node.store.all::<ClusterNode>();
        Ok(Seen { machine, may_write, leads, nodes, cluster, assigned: self.assigned.clone(), told: self.told.clone() })
    }

    fn plan(&self, seen: &Seen) -> Plan<Vec<Action>> {
        plan::plan(seen)
    }

    /// All of them, also when one goes wrong: a Service that cannot be written is no reason to leave others without an address.
    async fn apply(&mut self, actions: Vec<Action>, node: &Node) -> anyhow::Result<()> {
        let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
        if actions.contains(&Action::Leave) {
            self.leader.leave(node, &machine).await;
            return Ok(());
        }
        let client = api::load_balancer(&machine.config, &machine.facts.node_name)?;
        let mut problems = Vec::new();
        for action in actions {
            // Another control plane may hold the seat by now: it is asked for again, and what is left is planned again.
            if !self.leader.may_act() {
                break;
            }
            let done = timeout(DEADLINE, self.one(action, client.kube(), node, &machine.facts.node_name)).await;
            problems.extend(done.map_err(anyhow::Error::from).and_then(|done| done).err().map(|error| format!("{error:#}")));
        }
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
    }
}

#[cfg(test)]
mod lan;
#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
