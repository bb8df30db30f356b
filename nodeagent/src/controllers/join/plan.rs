//! What has to be got from others, in which order.

use std::fmt;
use std::time::{Duration, SystemTime};

use controlplane::pki::{self, AuthorityId, Certificate, CertificateId, CertificateSpec};

use crate::admission::issue::issued_by_others;
use crate::clock::date;
use crate::controllers::machine::Machine;
use crate::controllers::pki::{PATIENCE, Present, reason};
use crate::plan::{Missing, Plan};
use crate::resources::join::{JoinState, JoinStatus};

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub clock_confirmed: bool,
    /// How long everything but the clock has been there.
    pub waited: Duration,
    pub now: SystemTime,
    /// What should be, and what is there.
    pub certificates: Vec<(CertificateSpec, Present)>,
    pub api_server_ready: bool,
    pub told: Option<JoinStatus>,
    pub pause: Option<Pause>,
}

/// A failure that is left at that for a while.
#[derive(Debug, Clone)]
pub struct Pause {
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Of a control plane's agent.
    Ask { specs: Vec<CertificateSpec>, by: By },
    /// Of a control plane's agent, as a control plane that has its certificate.
    FetchKeys,
    /// Of the cluster.
    Certify(Box<CertificateSpec>),
    /// All is there.
    Settle,
}

/// What the machine shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Token,
    Certificate,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Ask { specs, by } => {
                let names: Vec<&str> = specs.iter().map(|spec| spec.id.name()).collect();
                let by = match by {
                    By::Token => "the join token",
                    By::Certificate => "the machine's certificate",
                };
                write!(f, "certificates {} by {by}", names.join(", "))
            }
            Action::FetchKeys => f.write_str("the authorities' keys"),
            Action::Certify(spec) => write!(f, "certificate {}", spec.id),
            Action::Settle => f.write_str("joined"),
        }
    }
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let authorities = &machine.config.cluster.certificate_authorities;
    let lacks_keys = AuthorityId::ALL.iter().any(|id| id.of(authorities).key.is_none() || pki::succeeds(id.of(authorities)));
    if !lacks_keys {
        return settle(seen, machine);
    }
    let lacking: Vec<&(CertificateSpec, Present)> = seen
        .certificates
        .iter()
        .filter(|(spec, present)| {
            let authority = spec.authority.of(authorities);
            authority.key.is_none() && reason(spec, present, authority, seen.now).is_some()
        })
        .collect();
    let keys = machine.is_control_plane();
    if lacking.is_empty() && !keys {
        return settle(seen, machine);
    }
    if let Some(clock) = lacking.iter().find_map(|(spec, present)| from_the_future(spec, present, machine, seen.now)) {
        return Plan::Waiting(vec![clock]);
    }
    if !seen.clock_confirmed && seen.waited < PATIENCE {
        return Plan::Waiting(vec![Missing::new("time from a time server")]);
    }
    if let Some(pause) = &seen.pause {
        return Plan::Waiting(vec![Missing::new(format!("a control plane to join through: {}", pause.message))]);
    }
    let asked = issued_by_others(machine.config.machine.role);
    let specs: Vec<CertificateSpec> = lacking.iter().filter(|(spec, _)| asked.contains(&spec.id)).map(|(spec, _)| spec.clone()).collect();
    if !specs.is_empty() {
        return Plan::Act(vec![Action::Ask { specs: with_machine(specs, seen), by: credential(seen, machine) }]);
    }
    if keys {
        return Plan::Act(vec![Action::FetchKeys]);
    }
    if !seen.api_server_ready {
        return Plan::Waiting(vec![Missing::new("API server")]);
    }
    // The kubelet's server certificate is asked for as the kubelet.
    let next = [CertificateId::KubeletClient, CertificateId::KubeletServer];
    let next = next.iter().find_map(|id| lacking.iter().find(|(spec, _)| spec.id == *id));
    Plan::from_actions(next.map(|(spec, _)| Action::Certify(Box::new(spec.clone()))).into_iter().collect())
}

/// A machine that joined says so; the one that made the cluster never did.
fn settle(seen: &Seen, machine: &Machine) -> Plan<Action> {
    let joined = !machine.is_control_plane() || seen.told.is_some();
    let told = seen.told.as_ref().is_some_and(|told| told.state == JoinState::Joined && told.tries == 0);
    if joined && !told { Plan::Act(vec![Action::Settle]) } else { Plan::Settled }
}

/// The machine's key vouches for every request.
fn with_machine(mut specs: Vec<CertificateSpec>, seen: &Seen) -> Vec<CertificateSpec> {
    let machine = seen.certificates.iter().map(|(spec, _)| spec).find(|spec| spec.id == CertificateId::Machine);
    specs.retain(|spec| spec.id != CertificateId::Machine);
    machine.cloned().into_iter().chain(specs).collect()
}

/// The machine's certificate while it is good, whatever it says; else the token again.
fn credential(seen: &Seen, machine: &Machine) -> By {
    let authority = &machine.config.cluster.certificate_authorities.machine.certificate;
    let found = seen.certificates.iter().find(|(spec, _)| spec.id == CertificateId::Machine);
    let good = found.and_then(|(_, present)| present.certificate_pem.as_deref()).is_some_and(|pem| {
        let own = Certificate::inspect(pem).is_ok_and(|certificate| certificate.common_name == machine.facts.node_name);
        own && pki::verify_chain(pem, authority, seen.now).is_ok()
    });
    if good { By::Certificate } else { By::Token }
}

/// A certificate that others issued by a clock that is ahead of this one: another would be no better.
fn from_the_future(spec: &CertificateSpec, present: &Present, machine: &Machine, now: SystemTime) -> Option<Missing> {
    let certificate = Certificate::inspect(present.certificate_pem.as_deref()?).ok()?;
    let authority = &spec.authority.of(&machine.config.cluster.certificate_authorities).certificate;
    let fits = pki::verify_chain(present.certificate_pem.as_deref()?, authority, certificate.not_before).is_ok();
    (certificate.not_before > now && fits).then(|| {
        let (begin, now) = (date(certificate.not_before), date(now));
        Missing::new(format!("the right time: this machine's clock says {now}, and certificate {} is valid from {begin}", spec.id))
    })
}

#[cfg(test)]
mod tests;
