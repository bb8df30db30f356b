//! What a scraper gets of a machine, with a certificate as it would have.

use std::time::Duration;

use anyhow::{Context, ensure};
use controlplane::client_config::ClientConfig;
use http_body_util::BodyExt;
use tests::cluster::Cluster;
use tonic::codegen::Service;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const PATIENCE: Duration = Duration::from_secs(30);

/// `GET /metrics` of the cluster's first machine.
pub fn scrape(cluster: &Cluster) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, text(cluster)).await.context("no answer")? })
}

async fn text(cluster: &Cluster) -> anyhow::Result<String> {
    let config = ClientConfig::from_yaml(&std::fs::read_to_string(cluster.client_config())?)?;
    let context = config.context(None)?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&context.ca))
        .identity(Identity::from_pem(&context.certificate, context.key.reveal()));
    let address = context.endpoints.first().context("no endpoint")?;
    let mut channel: Channel = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?;
    let request = http::Request::get(format!("https://{address}/metrics")).body(tonic::body::Body::empty())?;
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let response = channel.call(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|status| anyhow::anyhow!("{status}"))?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(String::from_utf8(body.to_vec())?)
}
