//! One round of looking and asking: what the board says, and what the checks that ask somebody else hear.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use controlplane::pki::CertificateId;
use futures::future::join_all;
use machine::config::{Cni, Config, HealthCheck, Probe, Role};
use machine::service::{ServiceSpec, ServiceStatus};
use machine::stage::Stage;

use super::checks::{Before, Seen, Service, Standing, UserCheck};
use super::probe;
use crate::controllers::overlay::reach;
use crate::controllers::pki::Keyring;
use crate::health;
use crate::identity;
use crate::node::Node;
use crate::resources::bootstrap;
use crate::resources::machine::Check;

/// What the rounds of one gate keep between them.
#[derive(Debug, Default)]
pub struct Observer {
    keyring: Keyring,
    /// How often init had started each service again, in the round before.
    restarts: BTreeMap<String, u32>,
    /// Whether a pod was seen to start: once is enough, since each try costs the runtime some programs.
    pods_start: bool,
    /// Nodes that answered through the overlay before the upgrade.
    pub peers_before: Vec<String>,
}

impl Observer {
    /// One round. `api` is where the machine API takes connections.
    pub async fn observe(&mut self, node: &Node, api: SocketAddr, before: Before) -> Seen {
        let mut seen = observe(node, api, &mut self.keyring, &self.restarts, before).await;
        if pods_can_be_tried(node, &seen.health) {
            let started = if self.pods_start { Ok(()) } else { probe::pods_start(node).await };
            self.pods_start = started.is_ok();
            seen.pods = Some(started);
        }
        if let Standing::Member(_) = seen.standing {
            seen.overlay = reach::still(node, &self.peers_before).await;
        }
        let restarts = seen.services.iter().map(|service| (service.status.id.to_string(), service.status.restarts));
        self.restarts = restarts.collect();
        seen
    }
}

/// Whether a pod can start on this machine now; `None` where that cannot be asked. `begins` is called before it is tried, which takes seconds.
pub async fn pods_start(node: &Node, begins: impl FnOnce()) -> Option<Result<(), String>> {
    if !pods_can_be_tried(node, &health::checks(node)) {
        return None;
    }
    begins();
    Some(probe::pods_start(node).await)
}

/// The Node is Ready only with a network's configuration; and the network must be ours: another one's plugins may ask the API server for a
/// pod that is not there.
fn pods_can_be_tried(node: &Node, health: &[(&'static str, Check)]) -> bool {
    let passed = |wanted: &str| health.iter().any(|(name, check)| *name == wanted && check.passed);
    passed("kubelet") && passed("node") && node.config().is_some_and(|applied| applied.config.cluster.network.cni == Cni::Overlay)
}

async fn observe(node: &Node, api: SocketAddr, keyring: &mut Keyring, restarts: &BTreeMap<String, u32>, before: Before) -> Seen {
    let standing = standing(node, before);
    let mut health = Vec::new();
    if let Standing::Member(_) = standing {
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
    let service = |(id, status): (String, ServiceStatus)| Service {
        slice: node.store.get::<ServiceSpec>(&id).map(|spec| spec.slice),
        restarted: restarts.get(&id).is_some_and(|before| status.restarts > *before),
        status,
    };
    Seen {
        state_problem: identity::state_problem(node),
        api,
        standing,
        health,
        pods: None,
        overlay: Ok(()),
        services: node.store.all::<ServiceStatus>().into_iter().map(service).collect(),
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

fn standing(node: &Node, before: Before) -> Standing {
    match node.config() {
        _ if node.stage() == Stage::Recovery => Standing::Recovery,
        None if identity::held(node) => Standing::Recovery,
        None => Standing::Maintenance,
        Some(applied) if is_member(node, &applied.config) => Standing::Member(before),
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
