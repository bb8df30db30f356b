//! Keeps the machine's certificates on STATE: issues them from the authorities whose keys the config holds, again when names or addresses
//! change, and in time before they end.
//!
//! reads: machine config, hostname, node IPs, time status, the files under /state/pki   writes: those files, certificates

mod apply;
mod keyring;
mod plan;

use std::time::{Duration, SystemTime};

use controlplane::pki::{self, CertificateId, CertificateSpec};
use tokio::time::Instant;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::Certificate;
use crate::resources::join::JoinStatus;
use crate::resources::time::TimeStatus;
use crate::store::Resource;
pub use apply::write;
pub use keyring::{Keyring, fingerprint, read_pair};
use plan::{Action, Seen};
pub use plan::{PATIENCE, Present, reason};

#[derive(Debug, Default)]
pub struct Pki {
    /// When all but a confirmed clock was there for the first time.
    waiting_since: Option<Instant>,
}

impl Controller for Pki {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "pki";
    const WAKE: Wake = Wake::WhatItReads;
    /// Certificates end, and its patience with time servers does, without anything changing on the board.
    const LOOK_AGAIN: Duration = Duration::from_secs(5);

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let waited = match &machine {
            Ok(_) => self.waiting_since.get_or_insert_with(Instant::now).elapsed(),
            Err(_) => Duration::ZERO,
        };
        // Files that the join wrote are seen at once.
        node.store.list(JoinStatus::KIND);
        let certificates = present(node, &machine);
        Ok(Seen { clock_confirmed: clock_confirmed(node), waited, now: SystemTime::now(), certificates, machine })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(action, node)
    }
}

/// Whether a time server confirmed the clock, or none will soon.
pub fn clock_confirmed(node: &Node) -> bool {
    node.store.get::<TimeStatus>(TimeStatus::NAME).is_some_and(|time| time.synchronized || time.settled)
}

/// What the machine should have, and what is there.
pub fn present(node: &Node, machine: &Result<Machine, Vec<Missing>>) -> Vec<(CertificateSpec, Present)> {
    let wanted = machine.as_ref().map(|machine| pki::certificates(&machine.config, &machine.facts)).unwrap_or_default();
    wanted.into_iter().map(|spec| (spec.clone(), look(node, &spec))).collect()
}

/// Those certificates that were signed by an authority which another one follows, and whose successors are not there yet.
pub fn overtaken(node: &Node, ids: &[CertificateId]) -> Vec<Missing> {
    let Some(config) = node.joined_config() else { return Vec::new() };
    let is_overtaken = |id: &&CertificateId| {
        let authority = id.authority().of(&config.cluster.certificate_authorities);
        let told = node.store.get::<Certificate>(id.name()).map(|told| told.authority_fingerprint);
        // One alone was followed by nobody.
        pki::each(&authority.certificate).nth(1).is_some()
            && told.is_some_and(|told| Some(told) != pki::fingerprint(&authority.certificate).ok())
    };
    ids.iter().filter(is_overtaken).map(|id| Missing::new(format!("certificate {id} of the new authority"))).collect()
}

fn look(node: &Node, spec: &CertificateSpec) -> Present {
    Present {
        certificate_pem: keyring::read_pair(&spec.certificate_path, &spec.key_path).map(|issued| issued.certificate_pem),
        told: node.store.get::<Certificate>(spec.id.name()),
    }
}
