//! The machine's identity towards callers of the machine API: which certificate it shows, and whose clients it takes.
//!
//! The certificate itself is issued and renewed by the pki controller.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use controlplane::pki::{CertificateId, CertificateRequest, Issued, Usage, self_signed, verify_chain};
use machine::Root;
use machine::config::CERTIFICATE_LIFETIME;
use machine::disk::Volume;
use machine::protocol::VolumeState;
use tokio::sync::watch;

use crate::controller::{Controller, Wake};
use crate::controllers::pki::read_pair;
use crate::files;
use crate::install;
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::Certificate;
use crate::resources::services;
use crate::server::tls::Credentials;

/// Whether a stranger must not configure this machine: it has an identity, or that cannot be known because STATE is not open.
pub fn held(node: &Node) -> bool {
    // What lies on the disks of a machine that runs from a medium is not this boot's.
    if install::is_on_medium(node) {
        return node.config().is_some();
    }
    state_problem(node).is_some() || configured(node)
}

/// Whether this machine has a config in force, or STATE, as far as it is open, holds an identity or a config.
pub fn configured(node: &Node) -> bool {
    node.config().is_some() || has_certificate(&node.root) || crate::config::exists(&node.root.config_directory())
}

/// Whether this machine ever had a certificate, or a config by which to get one.
pub fn has_certificate(root: &Root) -> bool {
    Files::new(root).any_exists()
}

/// Why nothing can be kept on STATE; `None` when it is open.
pub fn state_problem(node: &Node) -> Option<String> {
    let label = Volume::State.partition().label();
    match services::volume_state(&node.store, Volume::State) {
        Some(VolumeState::Open) => None,
        Some(VolumeState::Missing) => Some(format!("the disk has no {label} partition")),
        Some(VolumeState::Closed) => Some(format!("the {label} volume is not open")),
        Some(VolumeState::Opening) => Some(format!("the {label} volume is being opened")),
        Some(VolumeState::Broken { reason }) => Some(format!("the {label} volume is broken: {reason}")),
        None => Some(format!("init has not told of the {label} volume yet")),
    }
}

/// Keeps the machine API's credentials as the machine config and the machine's certificate say.
/// reads: machine config, certificates, the files machine.crt and machine.key   writes: machine-ca.crt, credentials
#[derive(Debug)]
pub struct Identity {
    files: Files,
    credentials: watch::Sender<Arc<Credentials>>,
    serving: Option<Serving>,
    /// Shown until there is a certificate of the authority.
    own: Issued,
}

/// What the machine API shows, and whose clients it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// `None`: the machine's own, which vouches for itself, until there is one of the authority.
    certificate: Option<Issued>,
    authority_pem: String,
    /// Machines that join, and scrapers with a token, may come without a certificate.
    strangers: bool,
}

#[derive(Debug, Clone)]
pub struct Seen {
    /// The machine authority as the config has it, PEM; `None` without a config.
    authority_pem: Option<String>,
    /// The same on STATE: by it recovery knows its callers without a config.
    kept_authority_pem: Option<String>,
    /// The machine's certificate and its key.
    certificate: Option<Issued>,
    /// There is a config in force: in recovery nobody comes without a certificate.
    configured: bool,
    now: SystemTime,
    /// `None` in maintenance.
    serving: Option<Serving>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    KeepAuthority(String),
    Serve(Box<Serving>),
}

fn plan(seen: &Seen) -> Plan<Action> {
    if let Some(pem) = seen.authority_pem.as_ref().filter(|pem| seen.kept_authority_pem.as_ref() != Some(*pem)) {
        return Plan::Act(vec![Action::KeepAuthority(pem.clone())]);
    }
    let Some(authority_pem) = seen.kept_authority_pem.clone() else { return Plan::Settled };
    // One of another authority, or one that has run out, would be refused by every client.
    let good = |issued: &Issued| verify_chain(&issued.certificate_pem, &authority_pem, seen.now).is_ok();
    let certificate = seen.certificate.clone().filter(good);
    let waiting = certificate.is_none();
    // Whoever joins or scrapes knows the machine by its certificate: before there is one, there is nobody to let in.
    let serving = Serving { strangers: seen.configured && certificate.is_some(), certificate, authority_pem };
    if seen.serving.as_ref() != Some(&serving) {
        return Plan::Act(vec![Action::Serve(Box::new(serving))]);
    }
    if waiting { Plan::Waiting(vec![Missing::new("certificate machine")]) } else { Plan::Settled }
}

impl Identity {
    /// With the credentials for maintenance: a certificate that vouches for itself.
    pub fn new(root: &Root, now: SystemTime) -> anyhow::Result<Identity> {
        let request = CertificateRequest {
            common_name: "corten-maintenance".to_owned(),
            organization: None,
            sans: controlplane::pki::San::loopback(),
            usage: Usage::Server,
            lifetime: CERTIFICATE_LIFETIME.0,
        };
        let own = self_signed(&request, now).context("making a certificate for maintenance")?;
        let credentials = watch::Sender::new(Arc::new(Credentials::open(&own)?));
        Ok(Identity { files: Files::new(root), credentials, serving: None, own })
    }

    pub fn credentials(&self) -> watch::Receiver<Arc<Credentials>> {
        self.credentials.subscribe()
    }

    /// Brings the credentials to rest before the API listens: a configured machine never asks less than it should.
    pub async fn settle(&mut self, node: &Node) -> anyhow::Result<()> {
        loop {
            let seen = self.observe(node).await?;
            let Plan::Act(actions) = plan(&seen) else { return Ok(()) };
            for action in actions {
                self.apply(action, node).await?;
            }
        }
    }
}

impl Controller for Identity {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "identity";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        // The files count; that there are others is read off the board.
        node.store.get::<Certificate>(CertificateId::Machine.name());
        Ok(Seen {
            authority_pem: node.config().map(|applied| applied.config.cluster.certificate_authorities.machine.certificate.clone()),
            kept_authority_pem: fs::read_to_string(&self.files.authority).ok(),
            certificate: read_pair(&self.files.certificate, &self.files.key),
            configured: node.config().is_some(),
            now: SystemTime::now(),
            serving: self.serving.clone(),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::KeepAuthority(pem) => files::write(&self.files.authority, pem.as_bytes(), 0o644),
            Action::Serve(serving) => {
                let certificate = serving.certificate.as_ref().unwrap_or(&self.own);
                let credentials = Credentials::mutual(certificate, &serving.authority_pem, serving.strangers)?;
                node.events.emit("certificate/machine", "Serving", format!("the machine API shows {}", credentials.fingerprint()));
                self.credentials.send_replace(Arc::new(credentials));
                self.serving = Some(*serving);
                Ok(())
            }
        }
    }
}

/// What identity means on STATE.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

impl Files {
    fn new(root: &Root) -> Files {
        let named = |suffix: &str| root.pki().join(format!("{}{suffix}", CertificateId::Machine));
        Files { certificate: named(".crt"), key: named(".key"), authority: named("-ca.crt") }
    }

    fn any_exists(&self) -> bool {
        [&self.certificate, &self.key, &self.authority].into_iter().any(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use controlplane::pki::Authority;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        Authority::generate("machine", SystemTime::now(), 3650 * DAY).unwrap()
    }

    fn issue(authority: &Authority) -> Issued {
        let request =
            CertificateRequest { common_name: "cp-1".to_owned(), organization: None, sans: Vec::new(), usage: Usage::Both, lifetime: DAY };
        authority.issue(&request, SystemTime::now()).unwrap()
    }

    fn fresh() -> Seen {
        Seen { authority_pem: None, kept_authority_pem: None, certificate: None, configured: false, now: SystemTime::now(), serving: None }
    }

    fn settle(seen: &mut Seen) -> Plan<Action> {
        for _ in 0..5 {
            let Plan::Act(actions) = plan(seen) else { return plan(seen) };
            for action in actions {
                match action {
                    Action::KeepAuthority(pem) => seen.kept_authority_pem = Some(pem),
                    Action::Serve(serving) => seen.serving = Some(*serving),
                }
            }
        }
        panic!("does not come to rest");
    }

    #[test]
    fn maintenance_shows_its_own() {
        assert_eq!(settle(&mut fresh()), Plan::Settled);
        assert_eq!(fresh().serving, None);
    }

    #[test]
    fn a_configured_machine_asks_for_client_certificates_at_once_and_shows_its_certificate_once_it_has_one() {
        let authority = authority();
        let mut seen = Seen { authority_pem: Some(authority.certificate_pem().to_owned()), configured: true, ..fresh() };
        assert!(matches!(settle(&mut seen), Plan::Waiting(_)));
        assert_eq!(seen.serving.as_ref().map(|serving| (&serving.certificate, serving.strangers)), Some((&None, false)));
        seen.certificate = Some(issue(&authority));
        assert_eq!(settle(&mut seen), Plan::Settled);
        assert_eq!(seen.serving.as_ref().map(|serving| (&serving.certificate, serving.strangers)), Some((&seen.certificate, true)));
    }

    #[test]
    fn a_certificate_of_another_authority_or_one_that_has_run_out_is_not_shown() {
        let authority = authority();
        let mut seen =
            Seen { authority_pem: Some(authority.certificate_pem().to_owned()), certificate: Some(issue(&self::authority())), ..fresh() };
        assert!(matches!(settle(&mut seen), Plan::Waiting(_)));
        seen.certificate = Some(issue(&authority));
        assert_eq!(settle(&mut seen), Plan::Settled);
        seen.now += 2 * DAY;
        assert!(matches!(settle(&mut seen), Plan::Waiting(_)));
    }

    #[test]
    fn recovery_takes_clients_by_what_is_kept() {
        let authority = authority();
        let mut seen =
            Seen { kept_authority_pem: Some(authority.certificate_pem().to_owned()), certificate: Some(issue(&authority)), ..fresh() };
        assert_eq!(settle(&mut seen), Plan::Settled);
        let serving = seen.serving.unwrap();
        assert_eq!((serving.authority_pem.as_str(), serving.strangers), (authority.certificate_pem(), false));
    }
}
