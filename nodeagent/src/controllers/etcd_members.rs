//! Brings a control plane into the etcd cluster that others run, as a learner and then with a vote, and shows who its members are.
//!
//! A control plane without a record of a cluster looks for etcd on the others that `cluster.controlPlanes` names, and joins the cluster that
//! it finds. It makes a new one only when it is told to (Cluster.Bootstrap), and only where its own config brings the authorities' keys.
//! What is done is found again after a power cut: by the record on STATE, by etcd's data, and by this machine's peer URL among the members.
//!
//! reads: machine config, hostname, node IPs, volumes (ETCD), certificates, bootstrap record, etcdrepairs, service etcd, resolvers
//! writes: etcdmembers, bootstrap record

mod apply;
mod observe;
mod plan;
mod voters;

use std::time::Duration;

use tokio::time::Instant;

use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::etcd::Connections;
use crate::etcd::members::Promotion;
use crate::node::Node;
use crate::plan::Plan;
use apply::Applied;
use observe::observe_by;
pub use observe::{elsewhere, is_founder, is_outdated, observe};
use plan::Action;
#[cfg(test)]
pub use plan::Data;
pub use plan::{Found, Seen, table};

#[derive(Debug, Default)]
pub struct EtcdMembers {
    keyring: Keyring,
    connections: Connections,
    /// What etcd said when it was asked for a vote too early, and when it is asked again.
    not_yet: Option<(String, Instant)>,
    /// Grows while etcd refuses.
    patience: Duration,
    /// Whether this machine is on its way into the cluster.
    on_the_way: bool,
}

/// While it joins, what it waits for happens elsewhere.
const ON_THE_WAY: Duration = Duration::from_secs(2);
const PATIENCE_MIN: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(15);

impl Controller for EtcdMembers {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "etcdmembers";
    const WAKE: Wake = Wake::WhatItReads;
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    fn look_again(&self) -> Duration {
        if self.on_the_way { ON_THE_WAY } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let not_yet = self.not_yet.as_ref().filter(|(_, until)| *until > Instant::now()).map(|(words, _)| words.clone());
        let seen = observe_by(node, &mut self.keyring, Some(&self.connections), not_yet).await;
        self.on_the_way = seen.on_the_way();
        Ok(seen)
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match apply::apply(action, node, &mut self.keyring).await? {
            Applied::Promotion(Promotion::NotYet(words)) => {
                self.patience = (self.patience * 2).clamp(PATIENCE_MIN, PATIENCE_MAX);
                self.not_yet = Some((words, Instant::now() + self.patience));
            }
            Applied::Promotion(Promotion::Done) => (self.not_yet, self.patience) = (None, Duration::ZERO),
            Applied::Other => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
