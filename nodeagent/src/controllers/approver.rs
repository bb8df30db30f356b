//! Grants kubelets' certificates, on control planes: for the name and the addresses that the machine proved when it joined, and for nothing
//! else.
//!
//! reads: machine config, hostname, node IPs, API servers, signing requests   writes: signing requests; their approval in the cluster

mod plan;
mod watch;

use std::collections::BTreeMap;

use anyhow::Context;
use controlplane::client::Client;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::api;
use super::machine::Machine;
use crate::admission::decide::MachineRecord;
use crate::admission::record;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ApiServer;
use crate::resources::signing_requests::PendingRequest;
use plan::{Action, Seen, Verdict, requester};
pub use watch::follow;

#[derive(Debug)]
pub struct Approver;

impl Controller for Approver {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "approver";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let pending = node.store.all::<PendingRequest>();
        let ready = ApiServer::local_ready(&node.store);
        let machine = Machine::observe(node).ok().filter(|machine| machine.is_control_plane() && ready);
        let mut machines = BTreeMap::new();
        let Some(machine) = machine.filter(|_| !pending.is_empty()) else { return Ok(Seen::default()) };
        let client = api::super_user(&machine.config)?;
        for name in pending.values().filter_map(|request| requester(&request.user)) {
            if let Some(kept) = record::machine(&client, name).await? {
                machines.insert(name.to_owned(), kept.record);
            }
        }
        Ok(Seen { pending, machines })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let config = node.joined_config().context("the machine has no config any more")?;
        let Action { name, verdict } = action;
        answer(&api::super_user(&config)?, &name, &verdict).await?;
        let words = match &verdict {
            Verdict::Approve => format!("request {name} is granted"),
            Verdict::Deny(why) => format!("request {name} is denied: {why}"),
        };
        node.events.emit("cluster", "SigningRequest", words);
        node.store.remove::<PendingRequest>(&name);
        Ok(())
    }
}

/// One that somebody else decided in between, or that is gone, is done.
async fn answer(client: &Client, name: &str, verdict: &Verdict) -> anyhow::Result<()> {
    let (kind, message) = match verdict {
        Verdict::Approve => ("Approved", "the machine proved this name and these addresses when it joined"),
        Verdict::Deny(why) => ("Denied", why.as_str()),
    };
    let condition = json!({ "type": kind, "status": "True", "reason": "CortenJoin", "message": message });
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    let api: Api<CertificateSigningRequest> = Api::all(client.kube().clone());
    match api.patch_approval(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("deciding CertificateSigningRequest {name}")),
    }
}

/// Machines by the names of their nodes.
pub type Machines = BTreeMap<String, MachineRecord>;
