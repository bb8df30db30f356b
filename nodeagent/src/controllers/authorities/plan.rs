//! What of a machine follows an authority that takes another's place, and what does not yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use controlplane::pki::{self, AuthorityId, Certificate, CertificateId};
use machine::config::CertificateAuthority;

use super::listeners::{Listener, subjects};
use crate::clock::date;
use crate::controller::{ControllerState, ControllerStatus};
use crate::controllers::machine::Machine;
use crate::handshake::Shown;
use crate::plan::{Missing, Plan};
use crate::resources::authorities::{AuthorityStatus, Phase};

#[derive(Debug)]
pub struct Seen {
    /// Of the config.
    pub generation: u64,
    pub machine: Result<Machine, Vec<Missing>>,
    pub told: BTreeMap<String, AuthorityStatus>,
    /// None where there is nothing to follow.
    pub looked: Option<Looked>,
    pub now: SystemTime,
}

/// How the machine is.
#[derive(Debug, Default)]
pub struct Looked {
    /// In PEM, and since when the file is so.
    pub certificates: BTreeMap<CertificateId, (String, Option<SystemTime>)>,
    pub controllers: BTreeMap<String, ControllerStatus>,
    pub not_ready: BTreeSet<String>,
    pub shown: Vec<(Listener, Result<Shown, String>)>,
    /// None on machines that do not ask.
    pub roots: Option<Result<BTreeMap<String, String>, String>>,
}

/// What is put on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub id: AuthorityId,
    pub status: AuthorityStatus,
}

/// Controllers that make of the config what has to do with authorities.
const CONTROLLERS: [&str; 9] =
    ["pki", "join", "identity", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// kube-apiserver calls kubelets by a certificate that it reads again after this long (CertCallbackRefreshDuration in client-go's
/// transport/cert_rotation.go); other services are restarted with theirs.
const KUBELET_CLIENT_REFRESH: Duration = Duration::from_secs(5 * 60);

pub fn plan(seen: &Seen) -> Plan<Told> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let statuses = AuthorityId::ALL.into_iter().filter_map(|id| Some(Told { id, status: status(id, machine, seen)? }));
    let (news, waiting): (Vec<Told>, Vec<Told>) = statuses.partition(|told| seen.told.get(told.id.name()) != Some(&told.status));
    if !news.is_empty() {
        return Plan::Act(news);
    }
    let missing: BTreeSet<Missing> = waiting.iter().flat_map(|told| told.status.waits_for.iter().cloned().map(Missing::new)).collect();
    if missing.is_empty() { Plan::Settled } else { Plan::Waiting(missing.into_iter().collect()) }
}

/// Whether an authority takes another's place, or something had not followed when it was looked at last. What an agent finds when it starts,
/// one authority alone, nobody has to follow.
pub fn is_restless(machine: &Machine, told: &BTreeMap<String, AuthorityStatus>) -> bool {
    AuthorityId::ALL.into_iter().any(|id| {
        let fingerprints = fingerprints(id.of(&machine.config.cluster.certificate_authorities));
        let told = told.get(id.name());
        fingerprints.len() > 1
            || told
                .is_some_and(|told| told.fingerprints != fingerprints || !told.waits_for.is_empty() || !told.cluster_waits_for.is_empty())
    })
}

fn status(id: AuthorityId, machine: &Machine, seen: &Seen) -> Option<AuthorityStatus> {
    let authority = id.of(&machine.config.cluster.certificate_authorities);
    let all: Vec<Certificate> = pki::each(&authority.certificate).filter_map(|pem| Certificate::inspect(pem).ok()).collect();
    let first = all.first()?;
    let newest = all.iter().map(|certificate| certificate.not_before).max()?;
    let phase = match all.len() {
        1 => Phase::Settled,
        _ if first.not_before == newest => Phase::Issuing,
        _ => Phase::Accepting,
    };
    let before = seen.told.get(id.name());
    let (waits_for, cluster_waits_for) = match &seen.looked {
        Some(looked) => (behind(id, machine, seen, looked), cluster_behind(id, authority, phase, looked, seen.now)),
        None => before.map(|told| (told.waits_for.clone(), told.cluster_waits_for.clone())).unwrap_or_default(),
    };
    Some(AuthorityStatus {
        phase,
        subject: first.common_name.clone(),
        not_after: date(first.not_after),
        accepts: all.iter().map(|certificate| certificate.common_name.clone()).collect(),
        fingerprints: fingerprints(authority),
        key: authority.key.is_some() && !pki::succeeds(authority),
        waits_for,
        cluster_waits_for,
    })
}

fn fingerprints(authority: &CertificateAuthority) -> Vec<String> {
    pki::each(&authority.certificate).filter_map(|pem| pki::fingerprint(pem).ok()).collect()
}

/// What of this machine has not followed.
fn behind(id: AuthorityId, machine: &Machine, seen: &Seen, looked: &Looked) -> Vec<String> {
    let authority = id.of(&machine.config.cluster.certificate_authorities);
    let mut behind = Vec::new();
    if pki::succeeds(authority) {
        behind.push("the key of the new authority".to_owned());
    }
    let own = looked.certificates.iter().filter(|(certificate, _)| certificate.authority() == id);
    let old = own.filter(|(_, (pem, _))| pki::verify_chain(pem, pki::issuing(&authority.certificate), seen.now).is_err());
    behind.extend(old.map(|(certificate, _)| format!("certificate {certificate}")));
    for (name, status) in &looked.controllers {
        let followed = status.state == ControllerState::Settled && status.generation >= seen.generation;
        if CONTROLLERS.contains(&name.as_str()) && !followed {
            behind.push(format!("controller {name}"));
        }
    }
    behind.extend(looked.not_ready.iter().filter(|name| CONTROLLERS.contains(&name.as_str())).map(|name| format!("service {name}")));
    behind.extend(looked.roots.iter().filter_map(|roots| roots.as_ref().err()).map(|error| format!("API server: {error}")));
    behind.extend(looked.shown.iter().filter_map(|(listener, shown)| at_server(id, listener, shown, machine, seen.now)));
    behind
}

/// What a server shows or takes that the config says otherwise.
fn at_server(id: AuthorityId, listener: &Listener, shown: &Result<Shown, String>, machine: &Machine, now: SystemTime) -> Option<String> {
    let authorities = &machine.config.cluster.certificate_authorities;
    let serves = listener.serves.is_some_and(|(authority, _)| authority == id);
    if !serves && !listener.clients.contains(&id) {
        return None;
    }
    let service = listener.service;
    let shown = match shown {
        Ok(shown) => shown,
        Err(error) => return Some(format!("{service}: {error}")),
    };
    let accepts: BTreeSet<Vec<u8>> = listener.clients.iter().flat_map(|id| subjects(&id.of(authorities).certificate)).collect();
    if listener.clients.contains(&id) && shown.accepts != accepts {
        return Some(format!("{service} to accept the clients of these authorities alone"));
    }
    let issuing = pki::issuing(&id.of(authorities).certificate);
    let good = shown.certificate.as_ref().is_some_and(|der| pki::verify_chain(&pki::certificate_pem(der), issuing, now).is_ok());
    (serves && !good).then(|| format!("{service} to show its new certificate"))
}

/// What machines do not have to wait for one after the other: whether the cluster tells pods of the same authorities, and whether its API servers
/// call kubelets by new certificates, before kubelets take no others any more.
fn cluster_behind(id: AuthorityId, authority: &CertificateAuthority, phase: Phase, looked: &Looked, now: SystemTime) -> Vec<String> {
    if id != AuthorityId::Kubernetes {
        return Vec::new();
    }
    // Meanwhile control planes may be a step apart, and one of them publishes for all: the order does not matter.
    let set = |text: &str| pki::each(text).filter_map(|pem| pki::fingerprint(pem).ok()).collect::<BTreeSet<_>>();
    let wanted = set(&authority.certificate);
    let stale = looked.roots.iter().filter_map(|roots| roots.as_ref().ok()).flatten().filter(|(_, text)| set(text) != wanted);
    let mut behind: Vec<String> = stale.map(|(namespace, _)| format!("ConfigMap {} of namespace {namespace}", super::ROOTS)).collect();
    let since = looked.certificates.get(&CertificateId::ApiServerKubeletClient).and_then(|(_, since)| *since);
    let fresh = since.is_some_and(|since| now.duration_since(since).unwrap_or_default() < KUBELET_CLIENT_REFRESH);
    if phase == Phase::Issuing && fresh {
        let (certificate, minutes) = (CertificateId::ApiServerKubeletClient, KUBELET_CLIENT_REFRESH.as_secs() / 60);
        behind.push(format!("kube-apiserver to take up certificate {certificate}, which takes it up to {minutes} minutes"));
    }
    behind
}

#[cfg(test)]
mod tests;
