//! Keeps kube-proxy, which makes Services reachable from this node, as the machine config says.
//!
//! Its modes leave rules in the kernel, and some of them in each other's way: between two modes the old one's are taken away, once its process
//! has ended and before the next is started. Which mode the rules are of, its config file says: /etc is made anew at each boot, as they are.
//!
//! reads: machine config, hostname, node IPs, certificate kube-proxy, nodes   writes: its config and kubeconfig, service kube-proxy

mod apply;
mod plan;
#[cfg(test)]
mod real;
mod render;
mod switch;

use std::path::PathBuf;

use controlplane::pki::{CertificateId, Issued};
use machine::Root;
use machine::config::ProxyMode;
use machine::service::{ServiceSpec, ServiceStatus};

use super::machine::Machine;
use super::pki::Keyring;
use super::service::{Subject, Supervised, Want};
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::NodeStatus;

pub use render::{HEALTH_PORT, IPVS_DEPRECATED};

pub const ID: &str = "kube-proxy";

/// The program, in the image.
fn program(root: &Root) -> PathBuf {
    root.path("usr/bin/kube-proxy")
}

#[derive(Debug, Default)]
pub struct KubeProxy {
    program: Supervised<Proxy>,
}

impl Controller for KubeProxy {
    type Seen = switch::Seen;
    type Action = switch::Action;
    const NAME: &'static str = ID;
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<switch::Seen> {
        let program = self.program.observe(node).await?;
        let config = node.root.kube_proxy_config();
        let wanted = match program.want() {
            Want::Waiting(_) => None,
            Want::Absent(_) => Some(ProxyMode::None),
            Want::Running(program) => {
                program.files.iter().find(|file| file.path == config).and_then(|file| render::mode_of(&file.contents))
            }
        };
        Ok(switch::Seen {
            wanted,
            in_place: std::fs::read(&config).ok().and_then(|config| render::mode_of(&config)),
            running: node.store.get::<ServiceStatus>(ID).is_some() || node.store.get::<ServiceSpec>(ID).is_some(),
            program: self.program.plan(&program),
        })
    }

    fn plan(&self, seen: &switch::Seen) -> Plan<switch::Action> {
        switch::plan(seen)
    }

    async fn apply(&mut self, action: switch::Action, node: &Node) -> anyhow::Result<()> {
        match action {
            switch::Action::Program(action) => self.program.apply(action, node).await,
            switch::Action::Stop => apply::stop(node).await,
            switch::Action::Clean { of, to } => apply::clean(node, of, to).await,
            switch::Action::Warn => {
                node.events.emit("service/kube-proxy", "Deprecated", render::IPVS_DEPRECATED);
                Ok(())
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Proxy {
    keyring: Keyring,
}

#[derive(Debug)]
pub struct Inputs {
    machine: Result<Machine, Vec<Missing>>,
    certificate: Option<Issued>,
    /// The cluster knows this machine's Node: kube-proxy looks for it, and again only after ever longer waits.
    node_known: bool,
    /// init has it: it ran before this agent, or before this change.
    known: bool,
}

impl Subject for Proxy {
    type Inputs = Inputs;
    const NAME: &'static str = ID;
    const CERTIFICATES: &'static [CertificateId] = &[CertificateId::KubeProxy];

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Inputs> {
        let machine = Machine::observe(node);
        let node_known = machine.as_ref().is_ok_and(|machine| node.store.get::<NodeStatus>(&machine.facts.node_name).is_some());
        Ok(Inputs {
            machine,
            certificate: self.keyring.get(node, CertificateId::KubeProxy),
            node_known,
            known: node.store.get::<ServiceStatus>(ID).is_some(),
        })
    }

    fn want(inputs: &Inputs) -> anyhow::Result<Want> {
        plan::want(inputs)
    }
}

#[cfg(test)]
mod tests;
