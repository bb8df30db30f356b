//! Which certificates have to be issued, and why.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use controlplane::pki::{self, CertificateId, CertificateSpec, San};
use machine::config::{CertificateAuthority, Secret};

use crate::clock::date;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::Certificate;

/// How long new certificates wait for a time server: without one the machine comes up all the same, and what a wrong clock dated wrongly is
/// issued again once the clock is right.
pub const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// A time server confirmed the clock, or none will soon.
    pub clock_confirmed: bool,
    /// How long everything but the clock has been there.
    pub waited: Duration,
    pub now: SystemTime,
    /// What should be, and what is there.
    pub certificates: Vec<(CertificateSpec, Present)>,
}

/// What is there of a certificate.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// None: no files, or a key that is not the certificate's.
    pub certificate_pem: Option<String>,
    /// What the board says.
    pub told: Option<Certificate>,
}

#[derive(Debug, Clone)]
pub enum Action {
    Issue { spec: Box<CertificateSpec>, authority: CertificateAuthority, key: Secret, now: SystemTime, because: Reason },
    Tell { id: CertificateId, certificate: Certificate },
}

/// Why a certificate is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Absent,
    /// The authority that issues did not sign it, or it is not valid now: what the check says.
    Unacceptable(String),
    /// Common name, organization or alternative names are to be others.
    Renamed,
    /// Two thirds of its life are over.
    Due,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Absent => f.write_str("there is none"),
            Reason::Unacceptable(why) => f.write_str(why),
            Reason::Renamed => f.write_str("its names or addresses changed"),
            Reason::Due => f.write_str("it is time to renew it"),
        }
    }
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let clock_trusted = seen.clock_confirmed || seen.waited >= PATIENCE;
    let mut actions = Vec::new();
    let mut missing = BTreeSet::new();
    for (spec, present) in &seen.certificates {
        let authority = spec.authority.of(&machine.config.cluster.certificate_authorities);
        match (reason(spec, present, authority, seen.now), &authority.key) {
            (None, _) => actions.extend(tell(spec, present, authority)),
            (Some(_), _) if !clock_trusted => drop(missing.insert(Missing::new("time from a time server"))),
            (Some(_), Some(_)) if pki::succeeds(authority) => {
                missing.insert(Missing::new(format!("key of the new authority {} (machinectl get joins)", spec.authority)));
            }
            (Some(because), Some(key)) => {
                let (authority, key) = (authority.clone(), key.clone());
                actions.push(Action::Issue { spec: Box::new(spec.clone()), authority, key, now: seen.now, because });
            }
            (Some(_), None) => {
                missing.insert(Missing::new(format!("certificate {} from a control plane (machinectl get joins)", spec.id)));
            }
        }
    }
    let waits = actions.is_empty() && !missing.is_empty();
    if waits { Plan::Waiting(missing.into_iter().collect()) } else { Plan::from_actions(actions) }
}

/// Why the certificate cannot stay; none where it can.
pub fn reason(spec: &CertificateSpec, present: &Present, authority: &CertificateAuthority, now: SystemTime) -> Option<Reason> {
    let Some(pem) = &present.certificate_pem else { return Some(Reason::Absent) };
    if let Err(error) = pki::verify_chain(pem, pki::issuing(&authority.certificate), now) {
        return Some(Reason::Unacceptable(error.to_string()));
    }
    let Ok(found) = pki::Certificate::inspect(pem) else { return Some(Reason::Absent) };
    if names(&found.sans) != names(&spec.request.sans)
        || found.common_name != spec.request.common_name
        || found.organizations.first() != spec.request.organization.as_ref()
    {
        return Some(Reason::Renamed);
    }
    pki::renewal_due(found.not_before, found.not_after, now, jitter(&found.serial)).then_some(Reason::Due)
}

/// Names without their order.
fn names(sans: &[San]) -> Vec<San> {
    let mut sans = sans.to_vec();
    sans.sort();
    sans
}

/// From 0 to 1, the same for as long as the certificate is: its serial is random.
fn jitter(serial: &str) -> f64 {
    let end = serial.get(serial.len().saturating_sub(4)..).unwrap_or_default();
    f64::from(u16::from_str_radix(end, 16).unwrap_or(0)) / f64::from(u16::MAX)
}

fn tell(spec: &CertificateSpec, present: &Present, authority: &CertificateAuthority) -> Option<Action> {
    let certificate = describe(present.certificate_pem.as_deref()?, authority)?;
    (present.told.as_ref() != Some(&certificate)).then_some(Action::Tell { id: spec.id, certificate })
}

/// It is signed by the authority that issues, or it would not be told of.
fn describe(pem: &str, authority: &CertificateAuthority) -> Option<Certificate> {
    let found = pki::Certificate::inspect(pem).ok()?;
    Some(Certificate {
        subject: found.common_name,
        organizations: found.organizations,
        authority: found.issuer,
        authority_fingerprint: pki::fingerprint(&authority.certificate).ok()?,
        sans: found.sans.iter().map(ToString::to_string).collect(),
        not_before: date(found.not_before),
        not_after: date(found.not_after),
        renewal: date(pki::renewal_time(found.not_before, found.not_after, jitter(&found.serial))),
        fingerprint: pki::fingerprint(pem).ok()?,
    })
}

#[cfg(test)]
mod tests;
