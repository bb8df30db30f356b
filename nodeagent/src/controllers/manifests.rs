//! Applies RBAC, DNS and the user's manifests to the cluster, on control planes, as soon as their API server answers; with that, bootstrap is
//! complete. What no control plane's config has any more is deleted.
//!
//! Objects are applied when they change and when the agent starts, not again and again: what people do in between stays as they have it. Each
//! object for itself: one that is refused holds up no other, and is tried again at ever longer intervals.
//!
//! reads: machine config, hostname, node IPs, API servers, bootstrap record, etcdmembers   writes: manifests, manifestsets, bootstrap record

mod apply;
mod inventory;
mod plan;
mod prune;
mod retries;

use std::time::Duration;

use controlplane::manifests;
use tokio::time::Instant;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::cluster::ApiServer;
use crate::resources::manifests::{ManifestSet, ManifestStatus};
use plan::{Action, Seen, Wanted};
use retries::Retries;

#[derive(Debug, Default)]
pub struct Manifests {
    /// Digest of the set whose objects the inventory holds.
    recorded: Option<String>,
    retries: Retries,
}

/// Names pruning among what is tried again.
const PRUNING: &str = "";

impl Controller for Manifests {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "manifests";
    const WAKE: Wake = Wake::WhatItReads;

    /// Not at once even if something is due: nothing can be tried while the API server is away.
    fn look_again(&self) -> Duration {
        self.retries.next(Instant::now()).map_or(Self::LOOK_AGAIN, |wait| wait.clamp(retries::FIRST, Self::LOOK_AGAIN))
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let wanted = match &machine {
            Ok(machine) if machine.is_control_plane() => manifests::manifests(&machine.config)?,
            _ => Vec::new(),
        };
        let told = node.store.all::<ManifestStatus>();
        let now = Instant::now();
        let wanted: Vec<Wanted> = wanted
            .into_iter()
            .map(|manifest| {
                let id = manifest.reference.to_string();
                Wanted { told: told.get(&id).cloned(), due: self.retries.is_due(&id, now), digest: plan::digest(&manifest), id, manifest }
            })
            .collect();
        let digest = plan::digest_of_all(&wanted);
        Ok(Seen {
            machine,
            recorded: self.recorded.as_ref() == Some(&digest),
            prune_due: self.retries.is_due(PRUNING, now),
            wanted,
            digest,
            api_server_ready: ApiServer::local_ready(&node.store),
            set: node.store.get::<ManifestSet>(ManifestSet::NAME),
            bootstrap: node.store.get::<Bootstrap>(Bootstrap::NAME),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(self, action, node).await
    }
}

#[cfg(test)]
mod of_a_cluster;
