//! One HTTP request to one server: with deadlines, a bounded answer, no redirects followed, no proxy, nothing kept between requests.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::MAX_DOCUMENT_BYTES;

/// Largest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    pub connect: Duration,
    /// From the beginning to the last byte of the answer.
    pub whole: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines { connect: Duration::from_secs(2), whole: Duration::from_secs(10) }
    }
}

/// Whom to ask.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    /// For https: whom to trust, and the name that the server's certificate must carry.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({}{})", self.address, if self.tls.is_some() { ", TLS" } else { "" })
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("connecting to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to {address} within {} ms", within.as_millis())]
    ConnectDeadline { address: SocketAddr, within: Duration },
    #[error("checking the certificate of {address}")]
    Tls { address: SocketAddr, source: io::Error },
    #[error("asking {address}")]
    Exchange { address: SocketAddr, source: hyper::Error },
    #[error("no whole answer from {address} within {} ms", within.as_millis())]
    Deadline { address: SocketAddr, within: Duration },
    #[error("an answer of more than {MAX_DOCUMENT_BYTES} bytes from {address}; expected at most that many")]
    TooLarge { address: SocketAddr },
    #[error("reading the answer of {address}")]
    Body { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
}

/// What a request may carry.
pub trait Message: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {}
impl<B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> Message for B {}

/// Sends the request, which is in origin form and names its host itself, and reads the whole answer.
pub async fn fetch<B: Message>(server: &Server, request: Request<B>, deadlines: Deadlines) -> Result<Answer, FetchError> {
    let (address, within) = (server.address, deadlines.whole);
    let whole = timeout(within, talk(server, request, deadlines.connect));
    whole.await.map_err(|_| FetchError::Deadline { address, within })?
}

async fn talk<B: Message>(server: &Server, request: Request<B>, within: Duration) -> Result<Answer, FetchError> {
    let address = server.address;
    let connecting = timeout(within, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| FetchError::ConnectDeadline { address, within })?;
    let stream = stream.map_err(|source| FetchError::Connect { address, source })?;
    match &server.tls {
        None => exchange(address, stream, request).await,
        Some((config, name)) => {
            let connected = TlsConnector::from(config.clone()).connect(name.clone(), stream).await;
            exchange(address, connected.map_err(|source| FetchError::Tls { address, source })?, request).await
        }
    }
}

async fn exchange<S, B: Message>(address: SocketAddr, stream: S, request: Request<B>) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| FetchError::Exchange { address, source };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Drives the connection while the answer is read, and goes when this returns or is dropped.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
    let body = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await.map_err(|source| match source.is::<LengthLimitError>() {
        true => FetchError::TooLarge { address },
        false => FetchError::Body { address, source },
    })?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}
