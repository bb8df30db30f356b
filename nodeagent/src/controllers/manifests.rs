//! Applies RBAC, DNS and the user's manifests to the cluster, on control planes, as soon as their API server answers; with that, bootstrap is
//! complete.
//!
//! reads: machine config, hostname, node IPs, API servers, bootstrap record   writes: manifests, bootstrap record

mod apply;
mod plan;
mod record;

use controlplane::manifests;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::cluster::{ApiServer, ManifestStatus};
use plan::{Action, Seen};

#[derive(Debug)]
pub struct Manifests;

impl Controller for Manifests {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "manifests";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let wanted = match &machine {
            Ok(machine) if machine.is_control_plane() => manifests::manifests(&machine.config)?,
            _ => Vec::new(),
        };
        Ok(Seen {
            machine,
            wanted,
            api_server_ready: ApiServer::local_ready(&node.store),
            applied: node.store.get::<ManifestStatus>(ManifestStatus::NAME),
            bootstrap: node.store.get::<Bootstrap>(Bootstrap::NAME),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(action, node).await
    }
}
