//! Service Cluster: making the cluster, and kubeconfigs for its administrators.

use std::time::{Duration, SystemTime};

use api::v1::cluster_server;
use api::v1::{BootstrapRequest, BootstrapResponse, GetKubeconfigRequest, GetKubeconfigResponse};
use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::{Authority, kubernetes_admin};
use machine::config::{CERTIFICATE_LIFETIME, Config};
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::Peer;
use super::config::duration;
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
        let applied = self.0.node.config().ok_or_else(|| Refusal::state("NO_CONFIG", "the machine has no config", "apply one"))?;
        let kubeconfig = admin_kubeconfig(&applied.config, &name.unwrap_or_default(), valid_for.unwrap_or(CERTIFICATE_LIFETIME.0))?;
        Ok(Response::new(GetKubeconfigResponse { kubeconfig }))
    }
}

/// A kubeconfig with a client certificate that is issued for it.
fn admin_kubeconfig(config: &Config, name: &str, valid_for: Duration) -> Result<String, Refusal> {
    if valid_for.is_zero() {
        return Err(Refusal::field("valid_for", "0 seconds; expected a longer time"));
    }
    let authority = &config.cluster.certificate_authorities.kubernetes;
    let Some(key) = &authority.key else {
        let remedy = "ask a control plane whose config holds it";
        return Err(Refusal::state("NO_AUTHORITY_KEY", "this machine does not hold the key of the Kubernetes authority", remedy));
    };
    let issuer = Authority::from_pem(&authority.certificate, key.reveal()).map_err(anyhow::Error::from)?;
    let issued = issuer.issue(&kubernetes_admin(name, valid_for), SystemTime::now()).map_err(anyhow::Error::from)?;
    let auth = Auth::Embedded { certificate: &issued.certificate_pem, key: &issued.key_pem };
    let text = kubeconfig::render(&config.cluster.name, &config.cluster.endpoint, &authority.certificate, name, auth);
    Ok(text.map_err(anyhow::Error::from)?)
}
