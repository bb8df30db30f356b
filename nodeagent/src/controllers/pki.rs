//! Keeps the machine's certificates on STATE: issues them from the authorities whose keys the config holds, again when names or addresses
//! change, and in time before they end.
//!
//! reads: machine config, hostname, node IPs, time status, the files under /state/pki   writes: those files, certificates

mod apply;
mod keyring;
mod plan;

use std::time::{Duration, SystemTime};

use controlplane::pki::{self, CertificateSpec};
use tokio::time::Instant;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::Certificate;
use crate::resources::time::TimeStatus;
pub use keyring::{Keyring, fingerprint, read_pair};
use plan::{Action, Present, Seen};

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
        let clock = node.store.get::<TimeStatus>(TimeStatus::NAME).is_some_and(|time| time.synchronized || time.settled);
        let now = SystemTime::now();
        let wanted = machine.as_ref().map(|machine| pki::certificates(&machine.config, &machine.facts)).unwrap_or_default();
        let certificates = wanted.into_iter().map(|spec| (spec.clone(), present(node, &spec))).collect();
        Ok(Seen { machine, clock_confirmed: clock, waited, now, certificates })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(action, node)
    }
}

fn present(node: &Node, spec: &CertificateSpec) -> Present {
    Present {
        certificate_pem: keyring::read_pair(&spec.certificate_path, &spec.key_path).map(|issued| issued.certificate_pem),
        told: node.store.get::<Certificate>(spec.id.name()),
    }
}
