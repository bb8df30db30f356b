//! Gets the certificates that this machine cannot issue itself, and the authorities' keys where it is a further control plane: from a control
//! plane's agent by the join token, later by the machine's certificate; the kubelet's by requests in the cluster. What fails is tried again
//! after a while, and nothing is written before it is whole.
//!
//! reads: machine config, hostname, node IPs, time status, API servers, the files under /state/pki
//! writes: those files, the authorities' keys, joins

mod ask;
mod certify;
mod plan;
mod problem;

#[cfg(test)]
pub mod real;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use controlplane::pki::{CertificateId, CertificateSpec, Issued};
use tokio::time::Instant;

use super::machine::Machine;
use super::pki::{self, Keyring};
use crate::clock::date;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ApiServer;
use crate::resources::join::{JoinState, JoinStatus};
use plan::{Action, Pause, Seen};
use problem::Problem;

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// From then on clocks that differ are told of.
const CLOCKS_APART: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Join {
    keyring: Keyring,
    /// When all but a confirmed clock was there for the first time.
    waiting_since: Option<Instant>,
    failure: Option<Failure>,
    tries: u32,
}

/// What went wrong last, and until when it is left at that.
#[derive(Debug, Clone)]
struct Failure {
    until: Instant,
    /// Another config may be the remedy: it is tried at once.
    generation: u64,
    message: String,
}

impl Controller for Join {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "join";
    const WAKE: Wake = Wake::WhatItReads;
    /// Certificates come due without anything changing on the board.
    const LOOK_AGAIN: Duration = Duration::from_secs(5);

    fn look_again(&self) -> Duration {
        let left = self.failure.as_ref().map(|failure| failure.until.saturating_duration_since(Instant::now()));
        left.map_or(Self::LOOK_AGAIN, |left| left.clamp(Duration::from_millis(50), Self::LOOK_AGAIN))
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let waited = match &machine {
            Ok(_) => self.waiting_since.get_or_insert_with(Instant::now).elapsed(),
            Err(_) => Duration::ZERO,
        };
        let generation = node.config().map_or(0, |applied| applied.generation);
        let pause = self.failure.as_ref().filter(|failure| failure.until > Instant::now() && failure.generation == generation);
        let pause = pause.map(|failure| Pause { message: failure.message.clone() });
        Ok(Seen {
            certificates: pki::present(node, &machine),
            clock_confirmed: pki::clock_confirmed(node),
            waited,
            now: SystemTime::now(),
            api_server_ready: ApiServer::any_ready(&node.store),
            told: node.store.get::<JoinStatus>(JoinStatus::NAME),
            pause,
            machine,
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
        let done = match &action {
            Action::Ask { specs, by } => {
                let own = self.own(&machine);
                ask::certificates(node, &machine, specs, *by, own.as_ref()).await.and_then(|answer| {
                    for (spec, issued) in specs.iter().zip(&answer.issued) {
                        pki::write(spec, issued).map_err(Problem::local)?;
                    }
                    Ok(Some((answer.through, answer.clock_offset)))
                })
            }
            Action::FetchKeys => {
                ask::authority_keys(node, &machine, self.own(&machine).as_ref()).await.and_then(|(through, authorities)| {
                    crate::authority_keys::save(node, authorities).map_err(Problem::local)?;
                    Ok(Some((through, None)))
                })
            }
            Action::Certify(spec) => self.certify(node, &machine, spec).await.map(|()| None),
            Action::Settle => {
                self.settle(node);
                return Ok(());
            }
        };
        match done {
            Ok(answer) => self.succeeded(node, &action, answer),
            Err(problem) => self.failed(node, problem),
        }
        Ok(())
    }
}

impl Join {
    /// The machine's certificate and key, as they lie on STATE.
    fn own(&self, machine: &Machine) -> Option<Issued> {
        let specs = controlplane::pki::certificates(&machine.config, &machine.facts);
        let spec = specs.into_iter().find(|spec| spec.id == CertificateId::Machine)?;
        pki::read_pair(&spec.certificate_path, &spec.key_path)
    }

    async fn certify(&mut self, node: &Node, machine: &Machine, spec: &CertificateSpec) -> Result<(), Problem> {
        let by = match spec.id {
            CertificateId::KubeletServer => CertificateId::KubeletClient,
            _ => CertificateId::Agent,
        };
        let identity = self.keyring.get(node, by).with_context(|| format!("certificate {by} is not there yet")).map_err(Problem::local)?;
        let issued = certify::certificate(&machine.config, spec, &identity).await?;
        pki::write(spec, &issued).map_err(Problem::local)
    }

    fn succeeded(&mut self, node: &Node, action: &Action, answer: Option<(String, Option<i64>)>) {
        (self.failure, self.tries) = (None, 0);
        let before = node.store.get::<JoinStatus>(JoinStatus::NAME).unwrap_or_default();
        let (through, offset) = answer.unwrap_or((before.through.clone(), None));
        let offset = offset.unwrap_or(before.clock_offset_seconds);
        let message = clocks(offset, &through).unwrap_or_else(|| format!("{action}: done"));
        node.events.emit("cluster", "Joining", format!("{action}: done, through {through}"));
        if offset != before.clock_offset_seconds && clocks(offset, &through).is_some() {
            node.console.print(&format!("joining the cluster: {message}"));
        }
        let reason = if clocks(offset, &through).is_some() { "CLOCK".to_owned() } else { String::new() };
        node.store.put(
            JoinStatus::NAME,
            &JoinStatus { reason, message, through, clock_offset_seconds: offset, state: before.state, ..JoinStatus::default() },
        );
    }

    fn failed(&mut self, node: &Node, problem: Problem) {
        let wait = jittered(RETRY_MIN.saturating_mul(1 << self.tries.min(6)).min(RETRY_MAX));
        self.tries = self.tries.saturating_add(1);
        let message = problem.to_string();
        let before = node.store.get::<JoinStatus>(JoinStatus::NAME).unwrap_or_default();
        // Tries that end the same way are told of once.
        if before.message != message {
            node.console.print(&format!("joining the cluster: {message}"));
            node.events.emit("cluster", "JoinFailed", message.clone());
        }
        let generation = node.config().map_or(0, |applied| applied.generation);
        self.failure = Some(Failure { until: Instant::now() + wait, generation, message: message.clone() });
        let retry_at = date(SystemTime::now() + wait);
        let reason = problem.reason().to_owned();
        node.store.put(JoinStatus::NAME, &JoinStatus { reason, message, tries: self.tries, retry_at, ..before });
    }

    fn settle(&mut self, node: &Node) {
        (self.failure, self.tries) = (None, 0);
        let before = node.store.get::<JoinStatus>(JoinStatus::NAME).unwrap_or_default();
        if before.state != JoinState::Joined {
            node.events.emit("cluster", "Joined", "the machine has all that it needs of the cluster");
        }
        let message = clocks(before.clock_offset_seconds, &before.through).unwrap_or_default();
        let reason = if message.is_empty() { String::new() } else { "CLOCK".to_owned() };
        node.store
            .put(JoinStatus::NAME, &JoinStatus { state: JoinState::Joined, reason, message, tries: 0, retry_at: String::new(), ..before });
    }
}

/// What to say where this machine's clock and the control plane's differ.
fn clocks(offset: i64, through: &str) -> Option<String> {
    (offset.unsigned_abs() >= CLOCKS_APART.as_secs()).then(|| {
        let now = SystemTime::now();
        let theirs = match u64::try_from(offset) {
            Ok(ahead) => now + Duration::from_secs(ahead),
            Err(_) => now - Duration::from_secs(offset.unsigned_abs()),
        };
        format!("this machine's clock says {}, that of {through} {}: see machine.network.timeServers", date(now), date(theirs))
    })
}

/// Half to one and a half times as long: machines that were started together do not come together again.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    wait.mul_f64(0.5 + (random % 1000) as f64 / 1000.0)
}
