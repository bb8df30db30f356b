//! Connections to the Kubernetes API, by whom they are made.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use controlplane::client::{Access, Client};
use controlplane::kubeconfig::local_server;
use controlplane::pki::{self, Authority, CertificateRequest, Issued};
use machine::config::Config;

use super::balancer;

/// Long enough for one round of a controller, short enough to be of no use to anybody else.
const LIFETIME: Duration = Duration::from_secs(600);

/// The cluster's super-user, on a control plane that holds the authority's key; at this machine's own API server.
pub fn super_user(config: &Config) -> anyhow::Result<Client> {
    connect(config, &local_server(), &issue(config, &pki::super_user(LIFETIME))?)
}

/// Who relieves nodes under pressure, on such a control plane.
pub fn reliever(config: &Config, node: &str) -> anyhow::Result<Client> {
    let (server, issued) = (local_server(), issue(config, &pki::reliever(node, LIFETIME))?);
    Ok(Client::asking_once(access(config, &server, &issued))?)
}

/// Who gives Services their addresses, on such a control plane.
pub fn load_balancer(config: &Config, node: &str) -> anyhow::Result<Client> {
    connect(config, &local_server(), &issue(config, &pki::load_balancer(node, LIFETIME))?)
}

fn issue(config: &Config, request: &CertificateRequest) -> anyhow::Result<Issued> {
    let authority = &config.cluster.certificate_authorities.kubernetes;
    let key = authority.key.as_ref().context("cluster.certificateAuthorities.kubernetes.key is not in this machine's config")?;
    let authority = Authority::from_pem(&authority.certificate, key.reveal()).context("cluster.certificateAuthorities.kubernetes")?;
    Ok(authority.issue(request, SystemTime::now())?)
}

/// Somebody with a certificate, through the balancer.
pub fn balanced(config: &Config, issued: &Issued) -> anyhow::Result<Client> {
    connect(config, &balancer::url(), issued)
}

/// Somebody with a certificate, at one server.
pub fn connect(config: &Config, server: &str, issued: &Issued) -> anyhow::Result<Client> {
    Ok(Client::new(access(config, server, issued))?)
}

fn access<'a>(config: &'a Config, server: &'a str, issued: &'a Issued) -> Access<'a> {
    let authority = &config.cluster.certificate_authorities.kubernetes.certificate;
    Access { server, authority, certificate: &issued.certificate_pem, key: &issued.key_pem }
}
