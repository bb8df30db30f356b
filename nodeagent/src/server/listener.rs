//! Accepts connections on the machine API's port and makes TLS connections of them. Bounded in number and in time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use controlplane::pki::Certificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::caller::{Identity, Peer, Proof};
use super::refusals::Refusals;
use super::shares::Shares;
use super::tls::{Credentials, Shown};

/// Connections that are open at a time, those in their handshake included.
const MAX_CONNECTIONS: usize = 256;
/// Those among them of strangers on a configured machine: machines that join. They must not keep out whoever has a certificate.
const MAX_STRANGERS: usize = 64;
/// How many one address may have of those that have not shown a certificate: a machine that joins needs one.
const HANDSHAKES_EACH: usize = 32;
const STRANGERS_EACH: usize = 8;
/// How long such a connection may last: a join takes a few seconds. A scraper that proves itself by a token gets more ([`Proof`]).
const STRANGERS_DEADLINE: Duration = Duration::from_secs(60);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait after an accept that failed: the cause (descriptors used up) does not go away at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// A TLS connection and who is at its other end.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Of a stranger's: when it ends.
    ends: Option<Pin<Box<Sleep>>>,
    /// Counts towards [`MAX_CONNECTIONS`] for as long as the connection lives.
    _permit: OwnedSemaphorePermit,
    /// Towards [`MAX_STRANGERS`] and [`STRANGERS_EACH`].
    _stranger: Option<[OwnedSemaphorePermit; 2]>,
}

/// Binds the port for IPv4 and IPv6; for IPv4 alone where the kernel has no IPv6.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
        Err(error) if error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await
        }
        bound => bound,
    }
}

/// Accepts connections until the receiver is dropped. Each handshake uses the credentials of its moment.
pub async fn accept(
    listener: TcpListener,
    credentials: watch::Receiver<Arc<Credentials>>,
    refusals: Arc<Refusals>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let strangers = Arc::new(Strangers {
        all: Arc::new(Semaphore::new(MAX_STRANGERS)),
        each: Shares::new(STRANGERS_EACH),
        handshakes: Shares::new(HANDSHAKES_EACH),
    });
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let (credentials, refusals, connections) = (credentials.borrow().clone(), refusals.clone(), connections.clone());
                // Whoever opens more than that at once is not answered at all.
                let Ok(handshake) = strangers.handshakes.of(address.ip()).try_acquire_owned() else { continue };
                let strangers = strangers.clone();
                tokio::spawn(async move {
                    let connected = connect(stream, address, &credentials, (permit, &strangers), &refusals).await;
                    drop(handshake);
                    match connected {
                        Ok(connection) => drop(connections.send(Ok(connection)).await),
                        Err(error) => tracing::debug!(%address, "{error:#}"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Bounds on connections of those that have not shown a certificate.
struct Strangers {
    all: Arc<Semaphore>,
    each: Shares,
    handshakes: Shares,
}

impl Strangers {
    fn count(&self, address: IpAddr) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = self.each.of(address).try_acquire_owned().ok()?;
        Some([own, self.all.clone().try_acquire_owned().ok()?])
    }
}

async fn connect(
    stream: TcpStream,
    address: SocketAddr,
    credentials: &Credentials,
    (permit, strangers): (OwnedSemaphorePermit, &Strangers),
    refusals: &Refusals,
) -> anyhow::Result<Connection> {
    let shown = Shown::default();
    stream.set_nodelay(true).context("setting TCP_NODELAY")?;
    let acceptor = TlsAcceptor::from(credentials.server_config(&shown)?);
    let handshake = timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await.context("handshake took too long")?;
    match handshake {
        Ok(stream) => {
            let peer = Peer { address: plain(address), identity: identity(&stream)?.map(Arc::new), proof: Proof::default() };
            let stranger = peer.identity.is_none() && !credentials.are_open();
            let counted = match stranger {
                true => Some(strangers.count(address.ip()).context("too many connections of machines without a certificate")?),
                false => None,
            };
            let ends = stranger.then(|| Box::pin(tokio::time::sleep(STRANGERS_DEADLINE)));
            Ok(Connection { stream, peer, ends, _permit: permit, _stranger: counted })
        }
        Err(error) => {
            let subject = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
            refusals.handshake(plain(address), subject.as_deref(), &error);
            Err(error).context("handshake")
        }
    }
}

fn identity(stream: &TlsStream<TcpStream>) -> anyhow::Result<Option<Identity>> {
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
    Ok(Some(Identity::of(&Certificate::inspect_der(certificate)?)))
}

/// `::ffff:192.0.2.1` as `192.0.2.1`.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Whether a stranger's time is over, which one that has proved itself meanwhile gets more of.
fn has_ended(ends: &mut Pin<Box<Sleep>>, proof: &Proof, context: &mut Context<'_>) -> bool {
    while ends.as_mut().poll(context).is_ready() {
        match proof.until().filter(|until| *until > Instant::now()) {
            Some(until) => ends.as_mut().reset(until),
            None => return true,
        }
    }
    false
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ends.as_mut().is_some_and(|ends| has_ended(ends, &this.peer.proof, context)) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
