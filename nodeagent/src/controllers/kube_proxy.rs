//! Keeps kube-proxy, which makes Services reachable from this node, as the machine config says.
//!
//! reads: machine config, hostname, node IPs, certificate kube-proxy, nodes   writes: its config and kubeconfig, service kube-proxy

mod plan;
mod render;

use controlplane::pki::{CertificateId, Issued};
use machine::service::ServiceStatus;

use super::machine::Machine;
use super::pki::Keyring;
use super::service::{Subject, Want};
use crate::node::Node;
use crate::plan::Missing;
use crate::resources::cluster::NodeStatus;

pub use render::HEALTH_PORT;

pub const ID: &str = "kube-proxy";

#[derive(Debug, Default)]
pub struct KubeProxy {
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

impl Subject for KubeProxy {
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
