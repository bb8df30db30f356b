//! Keeps the API server, the controller manager and the scheduler, on control planes, as the machine config says. The latter two start once
//! the API server answers: before, they would take processor time from it, and the controller manager ends without its roles.
//!
//! While an image is on trial, all three behave as those of the image before.
//!
//! reads: machine config, hostname, node IPs, certificates, bootstrap record, API servers, upgrades
//! writes: the files of each, services kube-apiserver, kube-controller-manager, kube-scheduler

use std::collections::BTreeMap;

use controlplane::pki::{CertificateId, Issued};
use controlplane::{Credentials, Facts, RenderError, Rendered, apiserver, controller_manager, scheduler};
use machine::config::Config;
use machine::disk::Volume;
use machine::service::ServiceStatus;

use super::machine::Machine;
use super::pki::Keyring;
use super::service::{self, Subject, Want};
use crate::node::Node;
use crate::plan::Missing;
use crate::resources::cluster::ApiServer;
use crate::resources::etcd_repair::EtcdRepair;
use crate::resources::{bootstrap, services};
use crate::upgrade::restraint;

pub const API_SERVER: &str = "kube-apiserver";

/// One of the three.
pub trait Component: std::fmt::Debug + Send + Sync + 'static {
    const ID: &'static str;
    const CERTIFICATES: &'static [CertificateId];
    /// Whether it starts after the API server of this machine is ready.
    const NEEDS_API: bool;
    fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError>;
}

#[derive(Debug)]
pub struct KubeApiserver;
#[derive(Debug)]
pub struct KubeControllerManager;
#[derive(Debug)]
pub struct KubeScheduler;

impl Component for KubeApiserver {
    const ID: &'static str = API_SERVER;
    const CERTIFICATES: &'static [CertificateId] = &[
        CertificateId::ApiServer,
        CertificateId::ApiServerEtcdClient,
        CertificateId::ApiServerKubeletClient,
        CertificateId::FrontProxyClient,
    ];
    const NEEDS_API: bool = false;
    fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
        apiserver::render(config, facts, credentials)
    }
}

impl Component for KubeControllerManager {
    const ID: &'static str = "kube-controller-manager";
    const CERTIFICATES: &'static [CertificateId] = &[CertificateId::ControllerManager];
    const NEEDS_API: bool = true;
    fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
        controller_manager::render(config, facts, credentials)
    }
}

impl Component for KubeScheduler {
    const ID: &'static str = "kube-scheduler";
    const CERTIFICATES: &'static [CertificateId] = &[CertificateId::Scheduler];
    const NEEDS_API: bool = true;
    fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
        scheduler::render(config, facts, credentials)
    }
}

/// The subject of one component.
#[derive(Debug)]
pub struct ControlPlane<C> {
    component: std::marker::PhantomData<C>,
    keyring: Keyring,
}

impl<C> Default for ControlPlane<C> {
    fn default() -> ControlPlane<C> {
        ControlPlane { component: std::marker::PhantomData, keyring: Keyring::default() }
    }
}

#[derive(Debug)]
pub struct Inputs {
    machine: Result<Machine, Vec<Missing>>,
    /// The audit log lies there.
    ephemeral_open: bool,
    /// This machine's etcd may serve it.
    has_etcd: bool,
    /// Its etcd will have other data.
    etcd_changes: bool,
    api_server_ready: bool,
    /// init has the service: it ran before this agent, or before this change.
    known: bool,
    issued: BTreeMap<CertificateId, Issued>,
}

impl<C: Component> Subject for ControlPlane<C> {
    type Inputs = Inputs;
    const NAME: &'static str = C::ID;
    const CERTIFICATES: &'static [CertificateId] = C::CERTIFICATES;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Inputs> {
        Ok(Inputs {
            machine: Machine::observe(node).map(|machine| machine.emulating(restraint::observe(node).kubernetes)),
            ephemeral_open: services::is_open(&node.store, Volume::Ephemeral),
            has_etcd: bootstrap::may_serve(&node.store),
            etcd_changes: EtcdRepair::current(&node.store).is_some_and(|repair| repair.changes_data()),
            api_server_ready: ApiServer::local_ready(&node.store),
            known: node.store.get::<ServiceStatus>(C::ID).is_some(),
            issued: self.keyring.all(node, C::CERTIFICATES),
        })
    }

    fn want(inputs: &Inputs) -> anyhow::Result<Want> {
        let machine = match &inputs.machine {
            Ok(machine) if machine.is_control_plane() && !inputs.etcd_changes => machine,
            Ok(_) => return Ok(Want::Absent(service::id(C::ID)?)),
            Err(missing) => return Ok(Want::Waiting(missing.clone())),
        };
        let mut missing = super::machine::missing([
            (inputs.ephemeral_open, "volume ephemeral"),
            (inputs.has_etcd, "bootstrap of the cluster, or a vote in etcd"),
            (!C::NEEDS_API || inputs.api_server_ready || inputs.known, "API server"),
        ]);
        let absent = C::CERTIFICATES.iter().filter(|id| !inputs.issued.contains_key(id));
        missing.extend(absent.map(|id| Missing::new(format!("certificate {id}"))));
        if !missing.is_empty() {
            return Ok(Want::Waiting(missing));
        }
        let credentials = Credentials { issued: inputs.issued.clone(), ..Credentials::from_config(&machine.config) };
        Ok(Want::Running(Box::new(C::render(&machine.config, &machine.facts, &credentials)?.into())))
    }
}

#[cfg(test)]
mod tests;
