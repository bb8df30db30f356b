//! Keeps etcd, on control planes, as the machine config says. It starts once the cluster was bootstrapped through this machine, or knows it
//! as a member that joins; one that the others have removed is stopped. After a boot the other control planes are asked first: a member that
//! was removed meanwhile must not find others of its kind.
//!
//! reads: machine config, hostname, node IPs, volumes (ETCD), certificates, bootstrap record, etcdmembers, etcdrepairs, resolvers
//! writes: etcd's files, service etcd

use std::collections::BTreeMap;

use controlplane::bootstrap::{self, Origin, Record};
use controlplane::etcd::{self, ClusterState, Membership};
use controlplane::pki::{CertificateId, Issued};
use controlplane::{Credentials, RenderError};
use machine::disk::Volume;

use super::etcd_members;
use super::machine::Machine;
use super::pki::Keyring;
use super::service::{self, Subject, Want};
use crate::node::Node;
use crate::plan::Missing;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::etcd::EtcdMember;
use crate::resources::etcd_repair::{EtcdRepair, Repair};
use crate::resources::services;

pub const ID: &str = "etcd";
const CERTIFICATES: [CertificateId; 2] = [CertificateId::EtcdServer, CertificateId::EtcdPeer];

#[derive(Debug, Default)]
pub struct Etcd {
    keyring: Keyring,
    /// Whether the others have removed this machine's member, as they said at first; none before they were asked.
    outdated: Option<bool>,
}

#[derive(Debug)]
pub struct Inputs {
    machine: Result<Machine, Vec<Missing>>,
    volume_open: bool,
    record: Option<Record>,
    /// Nothing in the data directory; of use only while the volume is open.
    data_empty: bool,
    /// The others have removed this machine's member.
    removed: bool,
    /// The other control planes were asked whether it is.
    asked: bool,
    /// What somebody has asked to be done with the member.
    repair: Option<Repair>,
    issued: BTreeMap<CertificateId, Issued>,
}

impl Subject for Etcd {
    type Inputs = Inputs;
    const NAME: &'static str = ID;
    const CERTIFICATES: &'static [CertificateId] = &CERTIFICATES;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Inputs> {
        let record = node.store.get::<Bootstrap>(Bootstrap::NAME).map(|bootstrap| bootstrap.record);
        let volume_open = services::is_open(&node.store, Volume::Etcd);
        match &record {
            None => self.outdated = None,
            Some(_) if self.outdated.is_none() && volume_open => self.outdated = etcd_members::is_outdated(node, &mut self.keyring).await,
            Some(_) => {}
        }
        Ok(Inputs {
            machine: Machine::observe(node),
            volume_open,
            data_empty: std::fs::read_dir(node.root.etcd_data()).map_or(true, |mut entries| entries.next().is_none()),
            removed: EtcdMember::own_removed(&node.store) || self.outdated == Some(true),
            asked: record.is_none() || self.outdated.is_some(),
            repair: EtcdRepair::current(&node.store),
            issued: self.keyring.all(node, &CERTIFICATES),
            record,
        })
    }

    fn want(inputs: &Inputs) -> anyhow::Result<Want> {
        let machine = match &inputs.machine {
            Ok(machine) if machine.is_control_plane() && !inputs.removed && !inputs.repair.as_ref().is_some_and(Repair::stops_etcd) => {
                machine
            }
            Ok(_) => return Ok(Want::Absent(service::id(ID)?)),
            Err(missing) => return Ok(Want::Waiting(missing.clone())),
        };
        let mut missing = super::machine::missing([(inputs.volume_open, "volume etcd")]);
        if inputs.volume_open {
            missing.extend(hindrance(machine, inputs));
            missing.extend(super::machine::missing([(inputs.asked, "an answer of the other control planes, or none")]));
        }
        let absent = CERTIFICATES.iter().filter(|id| !inputs.issued.contains_key(id));
        missing.extend(absent.map(|id| Missing::new(format!("certificate {id}"))));
        if !missing.is_empty() {
            return Ok(Want::Waiting(missing));
        }
        Ok(Want::Running(Box::new(render(machine, inputs)?.into())))
    }
}

/// Why etcd may not start on the data that is there.
fn hindrance(machine: &Machine, inputs: &Inputs) -> Option<Missing> {
    let seen = bootstrap::Seen {
        requested: false,
        record: inputs.record.clone(),
        etcd_data_empty: inputs.data_empty,
        cluster: machine.config.cluster.name.clone(),
    };
    match bootstrap::plan(&seen) {
        bootstrap::Plan::Act(_) => None,
        bootstrap::Plan::Waiting => Some(Missing::new("bootstrap of the cluster, or a way into it: see controller etcdmembers")),
        bootstrap::Plan::Refused(refusal) => Some(Missing::new(format!("somebody to decide: {refusal}"))),
    }
}

fn render(machine: &Machine, inputs: &Inputs) -> Result<controlplane::Rendered, RenderError> {
    let Machine { config, facts } = machine;
    let credentials = Credentials { issued: inputs.issued.clone(), ..Credentials::from_config(config) };
    let membership = match &inputs.record {
        Some(record) if record.origin == Origin::Join => Membership::join(record.members.clone()),
        record => Membership { token: record.as_ref().and_then(|record| record.token.clone()), ..Membership::bootstrap(facts)? },
    };
    let membership = match &inputs.repair {
        Some(Repair::Force) => Membership { state: ClusterState::Forced, isolated: true, ..membership },
        Some(repair) => Membership { isolated: repair.isolates_etcd(), ..membership },
        None => membership,
    };
    etcd::render(config, facts, &credentials, &membership)
}

#[cfg(test)]
mod tests;
