//! One round of looking and asking: what the board says, and what the checks that ask somebody else hear.

use std::net::SocketAddr;

use controlplane::pki::CertificateId;
use futures::future::join_all;
use machine::config::{Config, HealthCheck, Probe, Role};
use machine::service::{ServiceSpec, ServiceStatus};
use machine::stage::Stage;

use super::checks::{Seen, Standing, UserCheck};
use super::probe;
use crate::controllers::pki::Keyring;
use crate::health;
use crate::identity;
use crate::node::Node;
use crate::resources::bootstrap;
use crate::resources::machine::Check;

pub async fn observe(node: &Node, api: SocketAddr, keyring: &mut Keyring, reachable_before: bool) -> Seen {
    let standing = standing(node, reachable_before);
    let mut health = Vec::new();
    if let Standing::Member { .. } = standing {
        health = health::checks(node);
        ask_etcd(node, keyring, &mut health).await;
    }
    let agent = keyring.get(node, CertificateId::Agent);
    let checks = node.config().map(|applied| applied.config.machine.health.checks.clone()).unwrap_or_default();
    let asking = |check: HealthCheck| {
        let agent = agent.as_ref();
        async move {
            let of_the_cluster = matches!(check.probe(), Some(Probe::Pod(_)));
            UserCheck { title: check.title(), result: probe::ask(node, &check, agent).await, of_the_cluster }
        }
    };
    let (api, users) = tokio::join!(probe::listens(api), join_all(checks.into_iter().map(asking)));
    let services = node.store.all::<ServiceStatus>().into_iter();
    let slice = |id: &str| node.store.get::<ServiceSpec>(id).map(|spec| spec.slice);
    Seen {
        state_problem: identity::state_problem(node),
        api,
        standing,
        health,
        services: services.map(|(id, status)| (status, slice(&id))).collect(),
        users,
    }
}

/// init knows that etcd said once that it is ready; etcd itself knows whether it still has a leader.
async fn ask_etcd(node: &Node, keyring: &mut Keyring, health: &mut [(&'static str, Check)]) {
    let control_plane = node.config().is_some_and(|applied| applied.config.machine.role == Role::ControlPlane);
    let Some((_, etcd)) = health.iter_mut().find(|(name, check)| *name == "etcd" && check.passed && control_plane) else { return };
    if let Err(message) = probe::etcd(node, keyring).await {
        *etcd = Check { passed: false, message };
    }
}

fn standing(node: &Node, reachable_before: bool) -> Standing {
    match node.config() {
        _ if node.stage() == Stage::Recovery => Standing::Recovery,
        None if identity::held(node) => Standing::Recovery,
        None => Standing::Maintenance,
        Some(applied) if is_member(node, &applied.config) => Standing::Member { reachable_before },
        Some(_) => Standing::Alone,
    }
}

/// A control plane has a record of how it came to its cluster, a worker a certificate of the cluster's for its kubelet.
fn is_member(node: &Node, config: &Config) -> bool {
    match config.machine.role {
        Role::ControlPlane => bootstrap::is_done(&node.store),
        Role::Worker => node.root.kubelet_pki().join(format!("{}.crt", CertificateId::KubeletClient)).exists(),
    }
}
