//! Keeps the cluster's record of this control plane: by it nobody else joins under its name or with its addresses. Workers' records are written
//! when they join.
//!
//! reads: machine config, hostname, node IPs, certificate machine, API servers, manifests   writes: its record in the cluster

use anyhow::Context;
use controlplane::pki::{Certificate, CertificateId, key_id};
use machine::config::Role;

use super::api;
use super::machine::Machine;
use super::pki::Keyring;
use crate::admission::decide::MachineRecord;
use crate::admission::record;
use crate::clock::wall_seconds;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::ApiServer;

#[derive(Debug, Default)]
pub struct MachineRecords {
    keyring: Keyring,
    /// As the cluster has it since this agent wrote it.
    written: Option<MachineRecord>,
}

#[derive(Debug)]
pub struct Seen {
    machine: Result<Machine, Vec<Missing>>,
    /// Of the machine certificate's key.
    key: Option<String>,
    api_server_ready: bool,
    written: Option<MachineRecord>,
}

impl Controller for MachineRecords {
    type Seen = Seen;
    type Action = MachineRecord;
    const NAME: &'static str = "machinerecord";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let certificate = self.keyring.get(node, CertificateId::Machine);
        let certificate = certificate.and_then(|issued| Certificate::inspect(&issued.certificate_pem).ok());
        Ok(Seen {
            machine: Machine::observe(node),
            key: certificate.map(|certificate| key_id(&certificate.public_key)),
            api_server_ready: ApiServer::local_ready(&node.store),
            written: self.written.clone(),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<MachineRecord> {
        let machine = match &seen.machine {
            Ok(machine) if machine.is_control_plane() => machine,
            Ok(_) => return Plan::Settled,
            Err(missing) => return Plan::Waiting(missing.clone()),
        };
        let Some(key) = seen.key.clone() else { return Plan::Waiting(vec![Missing::new("certificate machine")]) };
        if !seen.api_server_ready || machine.config.cluster.certificate_authorities.kubernetes.key.is_none() {
            return Plan::Waiting(vec![Missing::new("API server")]);
        }
        let (node, addresses) = (machine.facts.node_name.clone(), machine.facts.node_ips.clone());
        let same = |written: &MachineRecord| (&written.node, &written.addresses, &written.key) == (&node, &addresses, &key);
        if seen.written.as_ref().is_some_and(same) {
            return Plan::Settled;
        }
        let role = Role::ControlPlane;
        Plan::Act(vec![MachineRecord { version: 1, node, role, key, addresses, token: String::new(), joined_at: 0, revoked: false }])
    }

    async fn apply(&mut self, wanted: MachineRecord, node: &Node) -> anyhow::Result<()> {
        let config = node.joined_config().context("the machine has no config any more")?;
        let client = api::super_user(&config)?;
        let before = record::machine(&client, &wanted.node).await?;
        let kept = before.as_ref().map(|kept| kept.record.clone());
        let (token, joined_at) = kept.as_ref().map_or((String::new(), wall_seconds()), |kept| (kept.token.clone(), kept.joined_at));
        let revoked = kept.as_ref().is_some_and(|kept| kept.revoked);
        let record = MachineRecord { token, joined_at, revoked, ..wanted };
        if kept.as_ref() != Some(&record) {
            record::write_machine(&client, before.as_ref(), &record).await?;
        }
        self.written = Some(record);
        Ok(())
    }
}
