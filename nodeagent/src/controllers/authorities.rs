//! Tells of each authority of the cluster what this machine accepts and issues from, and whether all that runs here has followed: by what its
//! servers say in handshakes, not by what was written for them. `machinectl rotate ca` goes on by that.
//!
//! reads: machine config, hostname, node IPs, certificates, controllers, init's services, handshakes of local servers, the cluster's ConfigMaps
//! writes: authorities

mod listeners;
mod plan;
#[cfg(test)]
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use controlplane::pki::{self, AuthorityId, CertificateId};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use machine::config::Config;
use machine::service::{ServiceSpec, ServiceState};

use super::api;
use super::machine::Machine;
use super::pki::present;
use crate::controller::{Controller, ControllerStatus, Wake};
use crate::handshake;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::authorities::AuthorityStatus;
use crate::resources::cluster::ApiServer;
#[cfg(test)]
pub use listeners::subjects;
use listeners::{Listener, listeners};
use plan::{Looked, Seen, Told};

/// While something does not follow yet: handshakes change without anything changing on the board.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(30);
/// How long the API server may take to list the ConfigMaps.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The ConfigMap by which pods know the API server, one in each namespace.
const ROOTS: &str = "kube-root-ca.crt";

#[derive(Debug, Default)]
pub struct Authorities {
    restless: bool,
}

impl Controller for Authorities {
    type Seen = Seen;
    type Action = Told;
    const NAME: &'static str = "authorities";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.restless { LOOK_AGAIN } else { REST }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        // What follows is looked at in this order: a controller that has settled on the config has put its services before.
        let generation = node.config().map_or(0, |applied| applied.generation);
        let machine = Machine::observe(node);
        let told = node.store.all::<AuthorityStatus>();
        let looked = match &machine {
            Ok(machine) if plan::is_restless(machine, &told) => Some(look(node, machine).await),
            _ => None,
        };
        self.restless = looked.is_some();
        Ok(Seen { generation, machine, told, looked, now: SystemTime::now() })
    }

    fn plan(&self, seen: &Seen) -> Plan<Told> {
        plan::plan(seen)
    }

    async fn apply(&mut self, told: Told, node: &Node) -> anyhow::Result<()> {
        node.store.put(told.id.name(), &told.status);
        Ok(())
    }
}

async fn look(node: &Node, machine: &Machine) -> Looked {
    let controllers = node.store.all::<ControllerStatus>();
    let put = node.store.all::<ServiceSpec>();
    let mut shown = Vec::new();
    for listener in listeners(machine).into_iter().filter(|listener| listens(listener, &put, &controllers)) {
        let answer = handshake::look(listener.address).await.map_err(|error| format!("{error:#}"));
        shown.push((listener, answer));
    }
    let issued = |(spec, present): (pki::CertificateSpec, super::pki::Present)| {
        let since = std::fs::metadata(&spec.certificate_path).and_then(|file| file.modified()).ok();
        Some((spec.id, (present.certificate_pem?, since)))
    };
    Looked {
        certificates: present(node, &Ok(machine.clone())).into_iter().filter_map(issued).collect(),
        not_ready: not_ready(node, &put).await,
        roots: roots(node, &machine.config).await,
        shown,
        controllers,
    }
}

/// The services of this machine that init does not have ready; init itself is asked, since its news take their time to the board.
async fn not_ready(node: &Node, put: &BTreeMap<String, ServiceSpec>) -> BTreeSet<String> {
    // Its news are a reason to look again.
    node.store.list(<machine::service::ServiceStatus as crate::store::Resource>::KIND);
    if put.is_empty() {
        return BTreeSet::new();
    }
    let ready: BTreeSet<String> = match node.init.services().await {
        Ok(all) => all.into_iter().filter(|status| status.state == ServiceState::Ready).map(|status| status.id.to_string()).collect(),
        Err(_) => BTreeSet::new(),
    };
    put.keys().filter(|id| !ready.contains(*id)).cloned().collect()
}

/// What the cluster tells pods of the API server's authority, by namespace; only control planes ask.
async fn roots(node: &Node, config: &Config) -> Option<Result<BTreeMap<String, String>, String>> {
    AuthorityId::Kubernetes.of(&config.cluster.certificate_authorities).key.as_ref()?;
    if !ApiServer::local_ready(&node.store) {
        return Some(Err("the API server of this machine is not ready".to_owned()));
    }
    let ask = async {
        let maps: Api<ConfigMap> = Api::all(api::super_user(config)?.kube().clone());
        let named = ListParams::default().fields(&format!("metadata.name={ROOTS}"));
        let listed = tokio::time::timeout(ANSWER_DEADLINE, maps.list(&named)).await??;
        let text = |map: ConfigMap| Some((map.metadata.namespace?, map.data?.remove("ca.crt")?));
        Ok(listed.items.into_iter().filter_map(text).collect())
    };
    Some(ask.await.map_err(|error: anyhow::Error| format!("listing ConfigMaps {ROOTS}: {error:#}")))
}

/// Whether there is somebody to ask on this machine.
fn listens(listener: &Listener, put: &BTreeMap<String, ServiceSpec>, controllers: &BTreeMap<String, ControllerStatus>) -> bool {
    match listener.serves.map(|(_, certificate)| certificate) {
        Some(CertificateId::Machine) => controllers.contains_key("identity"),
        _ => put.contains_key(listener.service),
    }
}
