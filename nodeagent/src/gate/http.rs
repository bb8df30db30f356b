//! One HTTP request of a health check: its status is all that counts.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, ensure};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use machine::config::{HttpCheck, Url};
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;

use crate::handshake::AnyCertificate;
use crate::names;
use crate::node::Node;
use crate::server::tls;

/// Asks, and passes if the answer has the wanted status.
pub async fn ask(node: &Node, check: &HttpCheck) -> anyhow::Result<()> {
    let url: Url = check.url.parse()?;
    let stream = names::connect(node, &url.server).await?;
    let status = if url.tls {
        let name = names::server_name(&url.server.host)?;
        let stream = TlsConnector::from(Arc::new(any_certificate()?)).connect(name, stream).await;
        status(TokioIo::new(stream.with_context(|| format!("the TLS handshake with {}", url.server))?), &url).await?
    } else {
        status(TokioIo::new(stream), &url).await?
    };
    ensure!(status == check.status, "status {status}; expected {}", check.status);
    Ok(())
}

async fn status(stream: impl Read + Write + Unpin + Send + 'static, url: &Url) -> anyhow::Result<u16> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = hyper::Request::get(&url.target)
        .header(hyper::header::HOST, &url.authority)
        .header(hyper::header::USER_AGENT, "corten")
        .body(Empty::<Bytes>::new())?;
    // A connection that ends is told of by the request, which may have its answer by then.
    let carried = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    // The body is left where it is: the connection ends with this call.
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer.context("asking")?.status().as_u16()),
        never = carried => match never {},
    }
}

/// As Kubernetes' probes do: a check says whether a service runs, not who it is.
fn any_certificate() -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::default())).with_no_client_auth())
}
