//! Keeps the kubelet as the machine config says.
//!
//! reads: machine config, hostname, node IPs, volumes (EPHEMERAL), certificates (kubelet-client, kubelet-server), services,
//! what init found at boot, cloudinstances
//! writes: the kubelet's config and kubeconfig, service kubelet

mod plan;
mod render;

use std::time::Duration;

use controlplane::pki::CertificateId;
use machine::config::{Config, Role, Taint, TaintEffect};
use machine::disk::Volume;
use machine::service::ServiceStatus;
use tokio::time::Instant;

use super::machine::Machine;
use super::service::{Subject, Want};
use super::{cloud, control_plane};
use crate::node::Node;
use crate::plan::Missing;
use crate::resources::cloud::CloudInstance;
use crate::resources::services;

pub use render::PORT;

pub const ID: &str = "kubelet";

#[derive(Debug, Default)]
pub struct Kubelet {
    /// When all but the API server was there for the first time.
    waiting_since: Option<Instant>,
}

#[derive(Debug)]
pub struct Inputs {
    machine: Result<Machine, Vec<Missing>>,
    ephemeral_open: bool,
    /// Fingerprints of the certificates that stand in the files named in the config.
    certificates: Vec<(CertificateId, Option<String>)>,
    /// It registers as a machine of a cloud: its controller has to know which one.
    is_of_a_cloud: bool,
    provider_id: Option<String>,
    /// On a control plane: its own API server listens. That is earlier than /readyz, and all that a kubelet needs: it is let in without a role.
    api_server_listens: bool,
    /// init has it: it ran before this agent, or before this change.
    known: bool,
    /// How long only the API server was missing.
    waited: Duration,
}

impl Subject for Kubelet {
    type Inputs = Inputs;
    const NAME: &'static str = ID;
    const CERTIFICATES: &'static [CertificateId] = &[CertificateId::KubeletClient, CertificateId::KubeletServer];

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Inputs> {
        let certificate = |id: CertificateId| (id, super::pki::fingerprint(&node.store, id));
        let machine = Machine::observe(node);
        let platform = node.boot_facts().platform;
        let mut inputs = Inputs {
            is_of_a_cloud: machine.as_ref().is_ok_and(|machine| cloud::is_needed(&machine.config, &platform)),
            provider_id: node.store.get::<CloudInstance>(CloudInstance::NAME).map(|instance| instance.provider_id),
            machine,
            ephemeral_open: services::is_open(&node.store, Volume::Ephemeral),
            certificates: [CertificateId::KubeletClient, CertificateId::KubeletServer].map(certificate).to_vec(),
            api_server_listens: services::is_ready(&node.store, control_plane::API_SERVER),
            known: node.store.get::<ServiceStatus>(ID).is_some(),
            waited: Duration::ZERO,
        };
        if plan::missing(&inputs).is_empty() {
            inputs.waited = self.waiting_since.get_or_insert_with(Instant::now).elapsed();
        }
        Ok(inputs)
    }

    fn want(inputs: &Inputs) -> anyhow::Result<Want> {
        plan::want(inputs)
    }
}

/// Label of control planes, and key of the taint that keeps ordinary pods off them.
pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Taints of this machine's Node: the kubelet registers with them, and the node controller keeps them.
pub fn taints(config: &Config) -> Vec<Taint> {
    let closed = config.machine.role == Role::ControlPlane && !config.cluster.allow_scheduling_on_control_planes;
    let own = closed.then(|| Taint { key: CONTROL_PLANE.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule });
    own.into_iter().chain(config.machine.kubelet.taints.iter().cloned()).collect()
}

#[cfg(test)]
mod tests;
