//! The connection to one sink. Each sending has a deadline.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::Full;
use hyper::body::Bytes;
use machine::config::{AuditSink, HostPort, SinkUrl, Transport, Url};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::syslog;
use crate::names;
use crate::node::Node;
use crate::resources::network::Hostname;
use crate::sources::fetch::{Deadlines, Server, fetch};
use crate::sources::trust;

const DEADLINE: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

pub enum Wire {
    Datagrams { socket: UdpSocket, hostname: String },
    Stream { stream: Box<dyn Stream>, hostname: String },
    Http { node: Node, url: Box<Url>, tls: Option<Arc<ClientConfig>> },
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wire::Datagrams { .. } => "Datagrams",
            Wire::Stream { .. } => "Stream",
            Wire::Http { .. } => "Http",
        })
    }
}

impl Wire {
    pub async fn open(node: &Node, sink: &AuditSink) -> anyhow::Result<Wire> {
        let url: SinkUrl = sink.url.parse()?;
        let tls = if url.is_tls() { Some(trust::authorities(&node.root, sink.ca.as_deref())?) } else { None };
        let hostname = node.store.get::<Hostname>(Hostname::NAME).map(|name| name.hostname).unwrap_or_default();
        match url {
            SinkUrl::Http(url) => Ok(Wire::Http { node: node.clone(), url: Box::new(url), tls }),
            SinkUrl::Syslog { transport: Transport::Udp, server } => {
                Ok(Wire::Datagrams { socket: datagrams(node, &server).await?, hostname })
            }
            SinkUrl::Syslog { transport: Transport::Tcp | Transport::Tls, server } => {
                let open = stream(node, &server, tls);
                let stream = timeout(DEADLINE, open).await.with_context(|| format!("no connection to {server} in time"))??;
                Ok(Wire::Stream { stream, hostname })
            }
        }
    }

    /// Whether the other end says that it took something.
    pub fn answers(&self) -> bool {
        matches!(self, Wire::Http { .. })
    }

    /// Whether all lines were taken: as far as the way can tell.
    pub async fn send(&mut self, lines: &[String]) -> anyhow::Result<()> {
        timeout(DEADLINE, self.write(lines)).await.context("it was not taken in time")?
    }

    async fn write(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let messages = |hostname: &str| lines.iter().filter_map(|line| syslog::message(line, hostname)).collect::<Vec<_>>();
        match self {
            Wire::Datagrams { socket, hostname } => {
                for message in messages(hostname) {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Wire::Stream { stream, hostname } => {
                let frames: String = messages(hostname).iter().map(|message| syslog::framed(message)).collect();
                stream.write_all(frames.as_bytes()).await?;
                stream.flush().await?;
            }
            Wire::Http { node, url, tls } => post(node, url, tls.clone(), lines).await?,
        }
        Ok(())
    }

    /// Waits until the other end closes the connection, where there is one.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let Wire::Stream { stream, .. } = self else { return std::future::pending().await };
        let mut said = [0; 512];
        // Syslog has no answers: what is said is not listened to.
        while stream.read(&mut said).await? > 0 {}
        bail!("the connection was closed")
    }
}

async fn datagrams(node: &Node, server: &HostPort) -> anyhow::Result<UdpSocket> {
    let to = first(node, server).await?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn stream(node: &Node, server: &HostPort, tls: Option<Arc<ClientConfig>>) -> anyhow::Result<Box<dyn Stream>> {
    let stream = names::connect(node, server).await?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let connected = TlsConnector::from(tls).connect(names::server_name(&server.host)?, stream).await;
    Ok(Box::new(connected.with_context(|| format!("the TLS handshake with {server}"))?))
}

async fn post(node: &Node, url: &Url, tls: Option<Arc<ClientConfig>>, lines: &[String]) -> anyhow::Result<()> {
    let server = Server {
        address: first(node, &url.server).await?,
        tls: tls.map(|tls| Ok::<_, anyhow::Error>((tls, names::server_name(&url.server.host)?))).transpose()?,
    };
    let body: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let request = Request::post(url.target.as_str())
        .header(HOST, &url.authority)
        .header(CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Full::new(Bytes::from(body)))?;
    let answer = fetch(&server, request, Deadlines::default()).await?;
    ensure!(answer.status.is_success(), "status {}; expected one from 200 to 299", answer.status.as_u16());
    Ok(())
}

async fn first(node: &Node, server: &HostPort) -> anyhow::Result<SocketAddr> {
    let addresses = names::addresses(node, &server.host.to_string()).await?;
    Ok(SocketAddr::new(*addresses.first().context("no address")?, server.port))
}
