//! What people do with etcd through this control plane's member: they look at it, remove dead ones, save and restore its data, and mend a
//! cluster that has lost its quorum.

pub mod recovery;
pub mod removal;
pub mod restore;
pub mod status;
pub mod upkeep;

use std::sync::Arc;

use controlplane::pki::{CertificateId, Issued};
use machine::config::Config;
use machine::disk::Volume;

use crate::controllers::etcd_members::{self, Seen};
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::etcd::members::Cluster;
use crate::etcd::{Access, access};
use crate::node::Node;
use crate::power::hostname;
use crate::refusal::Refusal;
use crate::resources::etcd_repair::EtcdRepair;
use crate::resources::services;

/// A client of etcd's servers.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    certificate: Issued,
}

impl Client {
    pub fn new(node: &Node) -> Result<Client, Refusal> {
        let machine = control_plane(node)?;
        let certificate = Keyring::default().get(node, CertificateId::EtcdHealthClient).ok_or_else(|| {
            let remedy = "try again in a moment; see machinectl get certificates";
            Refusal::state("NO_CERTIFICATE", "the agent has no certificate for etcd yet", remedy)
        })?;
        Ok(Client { config: machine.config, certificate })
    }

    /// Of this machine's etcd.
    pub fn own(&self) -> Access<'_> {
        access(&self.config, &self.certificate)
    }

    pub fn of<'a>(&'a self, server: &'a str) -> Access<'a> {
        Access { server, ..self.own() }
    }
}

fn control_plane(node: &Node) -> Result<Machine, Refusal> {
    let missing = |missing: Vec<crate::plan::Missing>| {
        let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
        Refusal::state("NOT_READY", format!("the machine waits for: {}", words.join(", ")), "try again in a moment")
    };
    let machine = Machine::observe(node).map_err(missing)?;
    match machine.is_control_plane() {
        true => Ok(machine),
        false => Err(Refusal::state("NOT_A_CONTROL_PLANE", "the machine is no control plane: it has no etcd", "ask a control plane")),
    }
}

/// What is known of the cluster.
async fn observe(node: &Node) -> Result<Seen, Refusal> {
    control_plane(node)?;
    Ok(etcd_members::observe(node, &mut Keyring::default(), None).await)
}

/// The cluster, as one that agrees.
fn agreeing(seen: &Seen) -> Result<&Cluster, Refusal> {
    seen.cluster().ok_or_else(|| {
        let problem = format!("etcd does not answer, or has no quorum: {}", seen.silence().unwrap_or_default());
        Refusal::state(
            "NO_QUORUM",
            problem,
            "see machinectl etcd status; a quorum that is lost for good is recovered with machinectl etcd recover",
        )
    })
}

/// What is done to a machine's data asks for its name.
fn confirmed(node: &Node, confirm: &str) -> Result<(), Refusal> {
    let hostname = hostname(node);
    if confirm == hostname {
        return Ok(());
    }
    Err(Refusal::field("confirm", format!("{confirm:?}; expected the machine's hostname, {hostname:?}, as a confirmation")))
}

/// Whether somebody's word can be kept on STATE, and done to ETCD.
fn ready_for_repair(node: &Node) -> Result<(), Refusal> {
    if let Some(problem) = crate::identity::state_problem(node) {
        return Err(Refusal::state("STATE_CLOSED", problem, "see machinectl get volumes for what is wrong with the disk"));
    }
    if !services::is_open(&node.store, Volume::Etcd) {
        return Err(Refusal::state("ETCD_CLOSED", "the ETCD volume is not open yet", "try again in a moment; see machinectl get volumes"));
    }
    match EtcdRepair::current(&node.store) {
        Some(repair) => {
            Err(Refusal::state("BUSY", format!("the machine waits for {}", repair.words()), "wait for it: machinectl etcd status"))
        }
        None => Ok(()),
    }
}
