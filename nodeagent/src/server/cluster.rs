//! Service Cluster: making the cluster, kubeconfigs for its administrators, and certificates and keys for machines that join.

use std::time::{Duration, SystemTime};

use api::v1::cluster_server;
use api::v1::{
    AuthorityKey, BootstrapRequest, BootstrapResponse, CreateTokenRequest, CreateTokenResponse, GetAuthorityKeysRequest,
    GetAuthorityKeysResponse, GetKubeconfigRequest, GetKubeconfigResponse, IssueCertificateRequest, IssueCertificateResponse,
    IssuedCertificate, JoinedMachine, ListMachinesRequest, ListMachinesResponse, ListTokensRequest, ListTokensResponse, MachineRole,
    RevokeMachineRequest, RevokeMachineResponse, RevokeTokenRequest, RevokeTokenResponse,
};
use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::{Authority, AuthorityId, CertificateId, kubernetes_admin};
use machine::config::{CERTIFICATE_LIFETIME, Config, Role};
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::Peer;
use super::config::duration;
use crate::admission::Application;
use crate::admission::decide::MachineRecord;
use crate::admission::token::TokenRecord;
use crate::admission::tokens::Purpose;
use crate::refusal::Refusal;

#[derive(Debug)]
pub struct Cluster(pub Api);

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<BootstrapResponse>, Status> {
        let by = request.extensions().get::<Peer>().map(|peer| peer.subject().to_owned()).unwrap_or_default();
        let outcome = self.0.bootstrap.bootstrap(request.get_ref().dry_run, &by).await?;
        Ok(Response::new(BootstrapResponse { plan: outcome.plan, already_bootstrapped: outcome.already }))
    }

    async fn get_kubeconfig(&self, request: Request<GetKubeconfigRequest>) -> Result<Response<GetKubeconfigResponse>, Status> {
        let name = request.extensions().get::<Peer>().and_then(|peer| peer.identity.clone()).map(|identity| identity.common_name.clone());
        let valid_for = request.into_inner().valid_for.map(|valid_for| duration("valid_for", valid_for)).transpose()?;
        let config = self.0.node.joined_config().ok_or_else(|| Refusal::state("NO_CONFIG", "the machine has no config", "apply one"))?;
        let kubeconfig = admin_kubeconfig(&config, &name.unwrap_or_default(), valid_for.unwrap_or(CERTIFICATE_LIFETIME.0))?;
        Ok(Response::new(GetKubeconfigResponse { kubeconfig }))
    }

    async fn issue_certificate(&self, request: Request<IssueCertificateRequest>) -> Result<Response<IssueCertificateResponse>, Status> {
        let peer = peer(&request)?;
        let application = application(request.into_inner())?;
        let names: Vec<String> = application.requests.iter().map(|(id, _)| id.name().to_owned()).collect();
        let issued = self.0.admission.issue(application, &peer).await?;
        let certificates = names.into_iter().zip(issued).map(|(name, certificate)| IssuedCertificate { name, certificate }).collect();
        Ok(Response::new(IssueCertificateResponse { certificates, time: Some(SystemTime::now().into()) }))
    }

    async fn get_authority_keys(&self, request: Request<GetAuthorityKeysRequest>) -> Result<Response<GetAuthorityKeysResponse>, Status> {
        let authorities = self.0.admission.authority_keys(&peer(&request)?).await?;
        let key = |id: AuthorityId| {
            let authority = id.of(&authorities);
            let key = authority.key.as_ref().map(|key| key.reveal().to_owned()).unwrap_or_default();
            AuthorityKey { name: id.name().to_owned(), certificate: authority.certificate.clone(), key }
        };
        Ok(Response::new(GetAuthorityKeysResponse { keys: AuthorityId::ALL.into_iter().map(key).collect() }))
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Result<Response<CreateTokenResponse>, Status> {
        let by = peer(&request)?.subject().to_owned();
        let request = request.into_inner();
        let role = role(request.role())?;
        let valid_for = request.valid_for.map(|valid_for| duration("valid_for", valid_for)).transpose()?;
        let node = Some(request.node).filter(|node| !node.is_empty());
        let (token, record) = self.0.admission.create_token(Purpose { role, node, valid_for, by }).await?;
        Ok(Response::new(CreateTokenResponse { token, created: Some(token_told(record)) }))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let tokens = self.0.admission.tokens().await?;
        Ok(Response::new(ListTokensResponse { tokens: tokens.into_iter().map(token_told).collect() }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<RevokeTokenResponse>, Status> {
        let by = peer(&request)?.subject().to_owned();
        self.0.admission.revoke_token(&request.get_ref().id, &by).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn list_machines(&self, _: Request<ListMachinesRequest>) -> Result<Response<ListMachinesResponse>, Status> {
        let machines = self.0.admission.machines().await?;
        Ok(Response::new(ListMachinesResponse { machines: machines.into_iter().map(machine_told).collect() }))
    }

    async fn revoke_machine(&self, request: Request<RevokeMachineRequest>) -> Result<Response<RevokeMachineResponse>, Status> {
        let by = peer(&request)?.subject().to_owned();
        self.0.admission.revoke_machine(&request.get_ref().node, &by).await?;
        Ok(Response::new(RevokeMachineResponse {}))
    }
}

fn token_told(record: TokenRecord) -> api::v1::Token {
    api::v1::Token {
        id: record.id,
        role: record.role.map_or(MachineRole::Unspecified, role_told).into(),
        node: record.node.unwrap_or_default(),
        expires_at: record.expires.map(at),
        revoked: record.revoked,
        created_by: record.by,
    }
}

fn machine_told(record: MachineRecord) -> JoinedMachine {
    JoinedMachine {
        node: record.node,
        role: role_told(record.role).into(),
        addresses: record.addresses.iter().map(ToString::to_string).collect(),
        token: record.token,
        joined_at: (record.joined_at > 0).then(|| at(record.joined_at)),
        revoked: record.revoked,
    }
}

fn role_told(role: Role) -> MachineRole {
    match role {
        Role::ControlPlane => MachineRole::ControlPlane,
        Role::Worker => MachineRole::Worker,
    }
}

fn at(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

fn role(role: MachineRole) -> Result<Role, Refusal> {
    match role {
        MachineRole::ControlPlane => Ok(Role::ControlPlane),
        MachineRole::Worker => Ok(Role::Worker),
        MachineRole::Unspecified => Err(Refusal::field("role", "none; expected control plane or worker")),
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("the connection does not say who is at its other end"))
}

fn application(request: IssueCertificateRequest) -> Result<Application, Refusal> {
    let role = role(request.role())?;
    let id = |name: &str| CertificateId::ALL.into_iter().find(|id| id.name() == name);
    let address = |text: &String| text.parse().map_err(|_| Refusal::field("addresses", format!("{text:?}; expected an IP address")));
    let asked = |request: api::v1::SigningRequest| match id(&request.name) {
        Some(id) => Ok((id, request.request)),
        None => Err(Refusal::field("requests", format!("{:?}; expected the name of a certificate", request.name))),
    };
    Ok(Application {
        role,
        addresses: request.addresses.iter().map(address).collect::<Result<_, _>>()?,
        requests: request.requests.into_iter().map(asked).collect::<Result<_, _>>()?,
        token: request.token,
        node: request.node,
        proof: request.proof,
    })
}

/// A kubeconfig with a client certificate that is issued for it.
pub(crate) fn admin_kubeconfig(config: &Config, name: &str, valid_for: Duration) -> Result<String, Refusal> {
    if valid_for.is_zero() {
        return Err(Refusal::field("valid_for", "0 seconds; expected a longer time"));
    }
    let authority = &config.cluster.certificate_authorities.kubernetes;
    let Some(key) = &authority.key else {
        let remedy = "ask a control plane that holds it";
        return Err(Refusal::state("NO_AUTHORITY_KEY", "this machine does not hold the key of the Kubernetes authority", remedy));
    };
    let issuer = Authority::from_pem(&authority.certificate, key.reveal()).map_err(anyhow::Error::from)?;
    let issued = issuer.issue(&kubernetes_admin(name, valid_for), SystemTime::now()).map_err(anyhow::Error::from)?;
    let auth = Auth::Embedded { certificate: &issued.certificate_pem, key: &issued.key_pem };
    let text = kubeconfig::render(&config.cluster.name, &config.cluster.endpoint, &authority.certificate, name, auth);
    Ok(text.map_err(anyhow::Error::from)?)
}
