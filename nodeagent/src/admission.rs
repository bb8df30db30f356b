//! Lets machines join through this control plane: checks what they show and ask for, writes down in the cluster what they proved, and issues
//! their certificates.

pub mod decide;
pub mod issue;
pub mod record;
pub mod token;
pub mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use controlplane::client::Client;
use controlplane::pki::{self, AuthorityId, CertificateId, SigningRequest};
use machine::config::{CertificateAuthorities, Config, Role};
use ring::hmac;
use tokio::sync::Semaphore;

use crate::clock::wall_seconds;
use crate::controllers::api;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::cluster::ApiServer;
use crate::server::caller::Peer;
use decide::{Asked, Credential, Known, decide};
use record::{Conflict, Kept};
use token::{Token, TokenRecord};

/// Joins that are looked at at a time: each asks the API server a few times.
const AT_ONCE: usize = 4;
/// How often a join is looked at again when others wrote at the same time.
const TRIES: usize = 5;
/// Longer node names would make longer names of objects than Kubernetes has.
const MAX_NODE_NAME: usize = 200;

/// What a machine sends.
#[derive(Debug)]
pub struct Application {
    pub token: String,
    pub node: String,
    pub role: Role,
    pub addresses: Vec<IpAddr>,
    /// The first one is that for its machine certificate.
    pub requests: Vec<(CertificateId, String)>,
    pub proof: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Admission {
    node: Node,
    permits: Arc<Semaphore>,
}

impl Admission {
    pub fn new(node: Node) -> Admission {
        Admission { node, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// One certificate for each request, in their order.
    pub async fn issue(&self, application: Application, peer: &Peer) -> Result<Vec<String>, Refusal> {
        let (config, client) = self.cluster()?;
        let asked = read(&application, peer, &config)?;
        let _permit = self.permits.acquire().await;
        let machine = self.admit(&asked, &config, &client).await?;
        let certificates = issue::issue(&config, &machine, &application.requests, SystemTime::now())?;
        let names: Vec<&str> = application.requests.iter().map(|(id, _)| id.name()).collect();
        self.node.events.emit(format!("machine/{}", asked.node), "Issued", format!("{} for {peer}", names.join(", ")));
        Ok(certificates)
    }

    async fn admit(&self, asked: &Asked, config: &Config, client: &Client) -> Result<decide::MachineRecord, Refusal> {
        for _ in 0..TRIES {
            let token = shown_token(asked, config, client).await.map_err(unavailable)?;
            decide::token_counts(asked, token.as_ref(), wall_seconds())?;
            let kept = record::machines(client).await.map_err(unavailable)?;
            let known = Known {
                token,
                machines: kept.iter().map(|kept| kept.record.clone()).collect(),
                nodes: record::nodes(client).await.map_err(unavailable)?,
                networks: config.cluster.network.pod_cidrs.iter().chain(&config.cluster.network.service_cidrs).copied().collect(),
                now: wall_seconds(),
            };
            let grant = decide(asked, &known)?;
            let before = |node: &str| -> Option<&Kept<decide::MachineRecord>> { kept.iter().find(|kept| kept.record.node == node) };
            let mut written = Ok(());
            for record in grant.changed.iter().chain([&grant.machine]) {
                if written.is_ok() && before(&record.node).is_none_or(|kept| kept.record != *record) {
                    written = record::write_machine(client, before(&record.node), record).await;
                }
            }
            match written {
                Ok(()) => return Ok(grant.machine),
                Err(error) if error.is::<Conflict>() => {}
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(Refusal::state("BUSY", "other machines join at the same time", "try again"))
    }

    /// The authorities with their keys, for a control plane that has joined.
    pub async fn authority_keys(&self, peer: &Peer) -> Result<CertificateAuthorities, Refusal> {
        let (config, client) = self.cluster()?;
        let denied = |problem: &str| {
            let remedy = "only a control plane that has joined gets the authorities' keys".to_owned();
            Refusal::NotPermitted { problem: problem.to_owned(), remedy }
        };
        let identity = peer.identity.as_ref().ok_or_else(|| denied("the call needs a machine's certificate"))?;
        let machine = identity
            .machine
            .as_ref()
            .filter(|machine| machine.control_plane)
            .ok_or_else(|| denied("the certificate is no control plane's"))?;
        let kept = record::machine(&client, &identity.common_name).await.map_err(unavailable)?;
        let record = kept.map(|kept| kept.record).ok_or_else(|| denied("the cluster has no record of the machine"))?;
        if record.revoked || record.key != machine.key || record.role != Role::ControlPlane {
            return Err(denied("the cluster's record of the machine says otherwise than its certificate"));
        }
        let authorities = &config.cluster.certificate_authorities;
        if AuthorityId::ALL.iter().any(|id| id.of(authorities).key.is_none()) {
            return Err(not_ready("this control plane has not got the authorities' keys itself yet"));
        }
        if let Some(id) = AuthorityId::ALL.into_iter().find(|id| pki::succeeds(id.of(authorities))) {
            return Err(not_ready(&format!("this control plane has not got the key of the new authority {id} itself yet")));
        }
        self.node.events.emit(format!("machine/{}", record.node), "KeysSent", format!("the authorities' keys went to {peer}"));
        Ok(authorities.clone())
    }

    /// The config, and the API server of this machine.
    fn cluster(&self) -> Result<(Arc<Config>, Client), Refusal> {
        let config = self.node.joined_config().filter(|config| config.machine.role == Role::ControlPlane);
        let config = config.ok_or_else(|| not_ready("this machine is no control plane"))?;
        if config.cluster.certificate_authorities.kubernetes.key.is_none() {
            return Err(not_ready("this control plane has not joined the cluster itself yet"));
        }
        if !ApiServer::local_ready(&self.node.store) {
            return Err(not_ready("the API server of this control plane is not ready"));
        }
        let client = api::super_user(&config)?;
        Ok((config, client))
    }
}

fn not_ready(problem: &str) -> Refusal {
    Refusal::state("NOT_READY", problem, "try again, or through another control plane")
}

fn unavailable(source: anyhow::Error) -> Refusal {
    Refusal::Unavailable { part: "kube-apiserver", source }
}

async fn shown_token(asked: &Asked, config: &Config, client: &Client) -> anyhow::Result<Option<TokenRecord>> {
    let Credential::Token(Some(shown)) = &asked.credential else { return Ok(None) };
    if let Some(kept) = record::token(client, &shown.id).await? {
        return Ok(Some(kept.record));
    }
    match config_token(config).filter(|own| own.id == shown.id) {
        Some(own) if !record::has_ended(client, &own.id).await? => Ok(Some(own)),
        _ => Ok(None),
    }
}

/// That of the machine config.
fn config_token(config: &Config) -> Option<TokenRecord> {
    let token = config.cluster.join_token.as_ref()?.reveal().parse::<Token>().ok()?;
    Some(TokenRecord::of_config(&token))
}

fn read(application: &Application, peer: &Peer, config: &Config) -> Result<Asked, Refusal> {
    if application.node.len() > MAX_NODE_NAME || !machine::config::is_dns_subdomain(&application.node) {
        return Err(Refusal::field("node", format!("{:?}; expected a DNS name of at most {MAX_NODE_NAME} characters", application.node)));
    }
    if application.node.ends_with(".corten.internal") {
        return Err(Refusal::field("node", "a name under corten.internal; expected another: these are Corten's own"));
    }
    let wanted = issue::issued_by_others(application.role);
    let first = application.requests.first().filter(|(id, _)| *id == CertificateId::Machine);
    let Some((_, request)) = first else { return Err(Refusal::field("requests", "expected the one for certificate machine first")) };
    if let Some((id, _)) = application.requests.iter().find(|(id, _)| !wanted.contains(id)) {
        return Err(Refusal::field(
            "requests",
            format!("{id}; expected of {}", wanted.iter().map(|id| id.name()).collect::<Vec<_>>().join(", ")),
        ));
    }
    let request = SigningRequest::inspect(request).map_err(|error| Refusal::field("requests", error.to_string()))?;
    let credential = match peer.identity.as_ref().and_then(|identity| Some((identity, identity.machine.as_ref()?))) {
        Some((identity, machine)) => Credential::Certificate { node: identity.common_name.clone(), key: machine.key.clone() },
        None => Credential::Token(application.token.parse().ok()),
    };
    let key = config.cluster.encryption_key.as_ref().map(|key| key.reveal());
    Ok(Asked {
        node: application.node.clone(),
        role: application.role,
        addresses: application.addresses.clone(),
        from: peer.address.ip(),
        key: request.key_id(),
        credential,
        proved_control_plane: key.is_some_and(|key| verify(key, &application.node, &request.public_key, &application.proof)),
    })
}

/// That whoever makes it holds the cluster's encryption key; `None` where that is no key.
pub fn proof(encryption_key: &str, node: &str, public_key: &[u8]) -> Option<Vec<u8>> {
    let key = STANDARD.decode(encryption_key.trim_end()).ok()?;
    Some(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &proved(node, public_key)).as_ref().to_vec())
}

fn verify(encryption_key: &str, node: &str, public_key: &[u8], proof: &[u8]) -> bool {
    let Ok(key) = STANDARD.decode(encryption_key.trim_end()) else { return false };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &proved(node, public_key), proof).is_ok()
}

fn proved(node: &str, public_key: &[u8]) -> Vec<u8> {
    [node.as_bytes(), &[0], public_key].concat()
}
