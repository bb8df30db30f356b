//! Asks control planes' agents, one after the other, for certificates and for the authorities' keys.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use api::v1::cluster_client::ClusterClient;
use api::v1::{
    GetAuthorityKeysRequest, GetAuthorityKeysResponse, IssueCertificateRequest, IssueCertificateResponse, MachineRole, SigningRequest,
};
use controlplane::pki::{self, Authority, AuthorityId, CertificateId, CertificateSpec, Issued, Unsigned};
use futures::future::BoxFuture;
use machine::config::{CertificateAuthorities, CertificateAuthority, Host, HostPort, Role, Secret};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::certify::checked;
use super::plan::By;
use super::problem::Problem;
use crate::admission::proof;
use crate::agents::{self, Dial, Whom};
use crate::controllers::machine::Machine;
use crate::files;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::api_servers::Membership;

/// What a control plane's agent gave.
pub struct Answer {
    /// In the order of what was asked for.
    pub issued: Vec<Issued>,
    pub through: String,
    /// By how much its clock is ahead, in seconds.
    pub clock_offset: Option<i64>,
}

pub async fn certificates(
    node: &Node,
    machine: &Machine,
    specs: &[CertificateSpec],
    by: By,
    own: Option<&Issued>,
) -> Result<Answer, Problem> {
    let unsigned = specs.iter().map(unsigned).collect::<anyhow::Result<Vec<Unsigned>>>().map_err(Problem::local)?;
    let request = request(machine, specs, &unsigned, by).map_err(Problem::local)?;
    let ask = |channel: Channel| -> Answering<IssueCertificateResponse> {
        let request = request.clone();
        Box::pin(async move { ClusterClient::new(channel).issue_certificate(request).await })
    };
    let own = own.filter(|_| by == By::Certificate);
    let (through, response) = match of_any(node, machine, own, &ask).await {
        // What this machine has is good by its own clock and records only.
        Err(problem) if problem.certificate_refused && by == By::Certificate => {
            return Box::pin(certificates(node, machine, specs, By::Token, None)).await;
        }
        answered => answered?,
    };
    let mut certificates = response.certificates;
    let mut issued = Vec::new();
    for (spec, unsigned) in specs.iter().zip(unsigned) {
        let found = certificates.iter().position(|certificate| certificate.name == spec.id.name());
        let found = found.with_context(|| format!("{through} sent no certificate {}", spec.id)).map_err(Problem::local)?;
        let checked = checked(&machine.config, spec, unsigned, certificates.swap_remove(found).certificate);
        issued.push(checked.with_context(|| format!("certificate {}", spec.id)).map_err(Problem::local)?);
    }
    let theirs = response.time.and_then(|time| SystemTime::try_from(time).ok());
    Ok(Answer { issued, through, clock_offset: theirs.map(offset) })
}

/// The machine's own key stays the same: by it the cluster knows the machine again, even one that lost its way between question and answer.
fn unsigned(spec: &CertificateSpec) -> anyhow::Result<Unsigned> {
    if spec.id != CertificateId::Machine {
        return Ok(pki::signing_request(&spec.request)?);
    }
    let kept = std::fs::read_to_string(&spec.key_path).ok().map(Secret::new);
    if let Some(key) = kept.filter(|key| pki::public_key(key).is_ok()) {
        return Ok(pki::signing_request_for(key, &spec.request)?);
    }
    let unsigned = pki::signing_request(&spec.request)?;
    files::write(&spec.key_path, unsigned.key_pem.reveal().as_bytes(), 0o600)?;
    Ok(unsigned)
}

fn request(machine: &Machine, specs: &[CertificateSpec], unsigned: &[Unsigned], by: By) -> anyhow::Result<IssueCertificateRequest> {
    let Machine { config, facts } = machine;
    let machine_key = unsigned.first().context("nothing to ask for")?;
    let proof = match (&config.cluster.encryption_key, config.machine.role) {
        (Some(key), Role::ControlPlane) => proof(key.reveal(), &facts.node_name, &pki::public_key(&machine_key.key_pem)?),
        _ => None,
    };
    let token = config.cluster.join_token.as_ref().map(|token| token.reveal().to_owned());
    let role = match config.machine.role {
        Role::ControlPlane => MachineRole::ControlPlane,
        Role::Worker => MachineRole::Worker,
    };
    let asked = |(spec, unsigned): (&CertificateSpec, &Unsigned)| SigningRequest {
        name: spec.id.name().to_owned(),
        request: unsigned.request_pem.clone(),
    };
    Ok(IssueCertificateRequest {
        token: token.filter(|_| by == By::Token).unwrap_or_default(),
        node: facts.node_name.clone(),
        role: role.into(),
        addresses: facts.node_ips.iter().map(ToString::to_string).collect(),
        requests: specs.iter().zip(unsigned).map(asked).collect(),
        proof: proof.unwrap_or_default(),
    })
}

/// The authorities with the keys that belong to the certificates of this machine's config.
pub async fn authority_keys(node: &Node, machine: &Machine, own: Option<&Issued>) -> Result<(String, CertificateAuthorities), Problem> {
    let wanted = &machine.config.cluster.certificate_authorities;
    let ask = |channel: Channel| -> Answering<CertificateAuthorities> {
        let wanted = wanted.clone();
        Box::pin(async move {
            let sent = ClusterClient::new(channel).get_authority_keys(GetAuthorityKeysRequest {}).await?.into_inner();
            // Where one authority follows another, some control planes have the new one's key before others do.
            let remedy = "it is asked again, and others are";
            let authorities = with_keys(wanted, &sent).map_err(|error| Refusal::state("NOT_READY", format!("{error:#}"), remedy))?;
            Ok(Response::new(authorities))
        })
    };
    of_any(node, machine, own, &ask).await
}

fn with_keys(mut authorities: CertificateAuthorities, sent: &GetAuthorityKeysResponse) -> anyhow::Result<CertificateAuthorities> {
    for id in AuthorityId::ALL {
        let sent = sent.keys.iter().find(|key| key.name == id.name()).with_context(|| format!("no key of authority {id} was sent"))?;
        let authority: &mut CertificateAuthority = id.of_mut(&mut authorities);
        let own = Authority::from_pem(pki::issuing(&authority.certificate), &sent.key);
        own.with_context(|| format!("the key of authority {id} that was sent"))?;
        authority.key = Some(Secret::new(sent.key.clone()));
    }
    Ok(authorities)
}

type Answering<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// Of the first control plane that answers for good.
async fn of_any<A>(
    node: &Node,
    machine: &Machine,
    own: Option<&Issued>,
    ask: &(dyn Fn(Channel) -> Answering<A> + Sync),
) -> Result<(String, A), Problem> {
    let authority_pem = &machine.config.cluster.certificate_authorities.machine.certificate;
    let dial = Dial { authority_pem, own, from: &machine.facts.node_ips, whom: Whom::ControlPlane };
    let mut problems = Vec::new();
    for server in servers(node, machine) {
        let asked = async {
            let channel = agents::connect(node, &server, dial).await?;
            ask(channel).await.map_err(|status| Problem::answered(&server.to_string(), &status))
        };
        match asked.await {
            Ok(answer) => return Ok((server.to_string(), answer.into_inner())),
            Err(problem) if problem.is_final || problem.certificate_refused => return Err(problem),
            Err(problem) => problems.push(problem),
        }
    }
    Err(Problem::of_all(problems))
}

/// The control planes that the config names, and those that were members when this machine last heard of them; not itself.
fn servers(node: &Node, machine: &Machine) -> Vec<HostPort> {
    let named = machine.config.cluster.control_planes.iter().filter_map(|text| text.parse::<HostPort>().ok());
    let members = node.store.get::<Membership>(Membership::NAME).unwrap_or_default().addresses;
    let members = members.into_iter().map(|address| HostPort { host: Host::Address(address.ip()), port: api::PORT });
    let mut servers: Vec<HostPort> = Vec::new();
    for server in named.chain(members) {
        let own = matches!(&server.host, Host::Address(ip) if machine.facts.node_ips.contains(ip));
        if !own && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// By how much another clock is ahead of ours, in seconds.
fn offset(theirs: SystemTime) -> i64 {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match theirs.duration_since(SystemTime::now()) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}
