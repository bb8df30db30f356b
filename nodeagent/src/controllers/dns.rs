//! Scales the cluster's DNS with the cluster, on control planes, for as long as nobody else scales it.
//!
//! The API server keeps who wrote the Deployment's `spec.replicas` last. Once that is somebody else (`kubectl scale`, an autoscaler, the user's own
//! manifest), it is theirs; the annotation `corten.dev/replicas: auto` on the Deployment gives it back. All control planes come to the same
//! number from the same Nodes, so they need not agree on who writes it.
//!
//! reads: machine config, hostname, node IPs, API servers, manifestsets, clusternodes   writes: dnsscales; replicas of Deployment kube-system/coredns

mod plan;
mod seen;

use anyhow::Context;
use controlplane::manifests::coredns::{ClusterSize, NAME, NAMESPACE};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::controllers::api;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ApiServer;
use crate::resources::dns::DnsScale;
use crate::resources::manifests::ManifestSet;
use crate::resources::overlay::ClusterNode;
use plan::{Action, Seen};

/// Owner of the Deployment's number of replicas.
pub const FIELD_MANAGER: &str = "corten-dns";

#[derive(Debug)]
pub struct Dns;

impl Controller for Dns {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "dns";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let applied = ManifestSet::is_applied(&node.store) && ApiServer::local_ready(&node.store);
        let nodes = node.store.all::<ClusterNode>();
        let scale = match &machine {
            Ok(machine) if applied && plan::is_concerned(machine) => {
                let found = deployments(machine)?.get_opt(NAME).await.with_context(|| format!("reading Deployment {NAMESPACE}/{NAME}"))?;
                found.as_ref().map(seen::scale)
            }
            _ => None,
        };
        Ok(Seen {
            machine,
            applied,
            size: ClusterSize {
                nodes: nodes.len() as u64,
                cpu_millis: nodes.values().fold(0, |sum, node| sum.saturating_add(node.cpu_millis)),
            },
            scale,
            told: node.store.get::<DnsScale>(DnsScale::NAME),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Scale { replicas, force } => {
                let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
                scale(&deployments(&machine)?, replicas, force).await
            }
            Action::Tell(Some(status)) => {
                node.store.put(DnsScale::NAME, &status);
                Ok(())
            }
            Action::Tell(None) => {
                node.store.remove::<DnsScale>(DnsScale::NAME);
                Ok(())
            }
        }
    }
}

/// Without force, a number that somebody else has written in the same moment stays: the next look finds out whose it is.
async fn scale(deployments: &Api<Deployment>, replicas: i32, force: bool) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "spec": { "replicas": replicas },
    });
    let params = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
    match deployments.patch(NAME, &params, &Patch::Apply(object)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("scaling Deployment {NAMESPACE}/{NAME} to {replicas}")),
        Ok(_) => Ok(()),
    }
}

fn deployments(machine: &Machine) -> anyhow::Result<Api<Deployment>> {
    Ok(Api::namespaced(api::super_user(&machine.config)?.kube().clone(), NAMESPACE))
}

#[cfg(test)]
mod of_a_cluster;
