//! Does with this machine's member of etcd what somebody has asked for (Etcd.Restore, Recover, Rejoin), step by step: each can be repeated, and
//! what is left to do stands on STATE until it is done.
//!
//! reads: etcdrepairs, machine config, hostname, service etcd, certificates, etcd's data   writes: bootstrap record, etcdrepairs, etcd's data

mod apply;
mod plan;

use std::time::Duration;

use controlplane::pki::CertificateId;
use machine::service::{ServiceSpec, ServiceState, ServiceStatus};

use super::etcd::ID;
use super::machine::Machine;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::etcd::{QUICK, access, members};
use crate::member::restore::STAGED;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::etcd_repair::EtcdRepair;
use plan::{Action, Seen};

#[derive(Debug, Default)]
pub struct EtcdRepairs {
    keyring: Keyring,
    busy: bool,
}

const WHILE_BUSY: Duration = Duration::from_millis(500);

impl Controller for EtcdRepairs {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "etcdrepair";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.busy { WHILE_BUSY } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let repair = EtcdRepair::current(&node.store);
        self.busy = repair.is_some();
        let machine = Machine::observe(node);
        let alone = match &repair {
            Some(repair) if repair.isolates_etcd() => self.goes_on_alone(node, &machine).await,
            _ => false,
        };
        Ok(Seen { repair, stopped: is_stopped(node), staged: node.root.etcd_restore().join(STAGED).exists(), alone, machine })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let node = node.clone();
        tokio::task::spawn_blocking(move || apply::apply(action, &node)).await?
    }
}

impl EtcdRepairs {
    /// Whether etcd leads a cluster that agrees.
    async fn goes_on_alone(&mut self, node: &Node, machine: &Result<Machine, Vec<crate::plan::Missing>>) -> bool {
        let (Ok(machine), Some(certificate)) = (machine, self.keyring.get(node, CertificateId::EtcdHealthClient)) else { return false };
        let access = access(&machine.config, &certificate);
        let Ok(health) = members::health(access, QUICK).await else { return false };
        health.leader == health.member && members::list(access).await.is_ok()
    }
}

/// init has ended it, and does not start it again.
fn is_stopped(node: &Node) -> bool {
    let state = node.store.get::<ServiceStatus>(ID).map(|status| status.state);
    node.store.get::<ServiceSpec>(ID).is_none() && matches!(state, None | Some(ServiceState::Stopped | ServiceState::Ended))
}

#[cfg(test)]
mod tests;
