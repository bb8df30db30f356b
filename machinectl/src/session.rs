//! A connection to one machine's API.

mod watched;
mod way;

use std::error::Error as _;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::v1::audit_client::AuditClient;
use api::v1::capture_client::CaptureClient;
use api::v1::cluster_client::ClusterClient;
use api::v1::config_client::ConfigClient;
use api::v1::etcd_client::EtcdClient;
use api::v1::file_client::FileClient;
use api::v1::image_client::ImageClient;
use api::v1::log_client::LogClient;
use api::v1::machine_client::MachineClient;
use api::v1::metrics_client::MetricsClient;
use api::v1::resource_client::ResourceClient;
use api::v1::service_control_client::ServiceControlClient;
use api::v1::upgrade_client::UpgradeClient;
use hyper_util::rt::TokioIo;
use machine::config::{Host, HostPort};
use rustls_pki_types::{DnsName, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::failure::{Failure, chain};
use crate::output::tell;
use crate::tls::Trust;
use watched::{Cause, Watched};
use way::Way;

/// First wait between two tries to connect; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// How long one try may take: a host that drops packets answers nothing at all.
const TRY_DEADLINE: Duration = Duration::from_secs(10);
/// How often an open connection is asked whether the machine is still there, and how long it has to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How to reach machines.
#[derive(Debug, Clone)]
pub struct Dialer {
    pub trust: Trust,
    /// Name to expect in the machine's certificate instead of the one it is called by.
    pub server_name: Option<String>,
    /// For how long a machine that cannot be reached is tried again.
    pub patience: Duration,
}

/// An open connection.
#[derive(Debug, Clone)]
pub struct Session {
    pub node: HostPort,
    way: Way,
    cause: Cause,
}

type Stream = TlsStream<TcpStream>;

/// Whether it makes sense to try again.
enum Trouble {
    Passing(String),
    Lasting(Failure),
}

impl Dialer {
    /// Connects to whichever of these control planes answers, which passes calls on to the machine.
    pub async fn connect_through(&self, endpoints: &[HostPort], node: &HostPort) -> Result<Session, Failure> {
        let mut failures = Vec::new();
        for endpoint in endpoints {
            match self.open(endpoint).await {
                Ok((channel, cause)) => return Ok(Session { node: node.clone(), way: Way::through(channel, node)?, cause }),
                Err(failure) => failures.push(failure),
            }
        }
        Err(Failure::all(failures))
    }

    pub async fn connect(&self, node: &HostPort) -> Result<Session, Failure> {
        let (channel, cause) = self.open(node).await?;
        Ok(Session { node: node.clone(), way: Way::direct(channel), cause })
    }

    /// Connects; trouble that may pass (nobody listens, no route, connection reset) is tried again until patience ends.
    async fn open(&self, node: &HostPort) -> Result<(Channel, Cause), Failure> {
        let (configuration, seen) = self.trust.configuration()?;
        let line = Line { node: node.clone(), name: self.server_name(node)?, tls: TlsConnector::from(Arc::new(configuration)) };
        let started = Instant::now();
        let mut wait = RETRY_MIN;
        let stream = loop {
            match line.open(self).await {
                Ok(stream) => break stream,
                Err(Trouble::Lasting(failure)) => return Err(failure),
                Err(Trouble::Passing(problem)) if started.elapsed() + wait > self.patience => {
                    return Err(Failure::new(node, problem).remedy("check the address, and that the machine is up"));
                }
                Err(Trouble::Passing(_)) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(RETRY_MAX);
        };
        if let (Trust::Maintenance(None), Some(shown)) = (&self.trust, seen.get()) {
            tell(&format!("warning: {node}: not verified; compare with its console: fingerprint {shown}"));
        }
        let cause = Cause::default();
        let channel = channel(line, stream, cause.clone()).await.map_err(|failure| broken(failure, &cause))?;
        Ok((channel, cause))
    }

    fn server_name(&self, node: &HostPort) -> Result<ServerName<'static>, Failure> {
        let name = self.server_name.clone().unwrap_or_else(|| node.host.to_string());
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(ServerName::IpAddress(address.into()));
        }
        let dns = DnsName::try_from(name.clone())
            .map_err(|_| Failure::usage("--server-name", format!("{name:?} is neither a DNS name nor an address")))?;
        Ok(ServerName::DnsName(dns))
    }
}

/// Where and how to dial; again, when a connection breaks.
#[derive(Clone)]
struct Line {
    node: HostPort,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Line {
    async fn open(&self, dialer: &Dialer) -> Result<Stream, Trouble> {
        self.dial().await.map_err(|error| self.trouble(&error, dialer))
    }

    async fn dial(&self) -> std::io::Result<Stream> {
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no connection within {} s", TRY_DEADLINE.as_secs()));
        tokio::time::timeout(TRY_DEADLINE, self.dial_patiently()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn dial_patiently(&self) -> std::io::Result<Stream> {
        let host = match &self.node.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        let tcp = TcpStream::connect((host, self.node.port)).await?;
        tcp.set_nodelay(true)?;
        self.tls.connect(self.name.clone(), tcp).await
    }

    fn trouble(&self, error: &std::io::Error, dialer: &Dialer) -> Trouble {
        use rustls::{CertificateError as C, Error as Tls};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
        let lasting = |problem: String, remedy: &str| Trouble::Lasting(Failure::new(&self.node, problem).remedy(remedy));
        match inner {
            None => Trouble::Passing(chain(error)),
            Some(Tls::InvalidCertificate(C::ApplicationVerificationFailure)) => lasting(
                "its certificate has another fingerprint".to_owned(),
                "compare with the machine's console; if they differ, somebody is in between",
            ),
            Some(Tls::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => lasting(
                format!("its certificate is not for this name: {}", chain(error)),
                "call it by a name in its certificate, or say which one with --server-name",
            ),
            // Authorities of different clusters have the same name, so a stranger's shows as a wrong signature.
            Some(Tls::InvalidCertificate(C::UnknownIssuer | C::BadSignature)) => match dialer.trust {
                Trust::Cluster(_) => lasting(
                    "its certificate is not from this cluster's machine authority".to_owned(),
                    "use the context of its cluster; a machine in maintenance needs --insecure with --fingerprint",
                ),
                Trust::Maintenance(_) => lasting(chain(error), ""),
            },
            Some(Tls::InvalidCertificate(_)) => lasting(chain(error), ""),
            // A machine whose certificates are being replaced ends handshakes that are under way.
            Some(_) => Trouble::Passing(chain(error)),
        }
    }
}

/// HTTP/2 over the open stream; over a new one, should that break.
async fn channel(line: Line, first: Stream, cause: Cause) -> Result<Channel, Failure> {
    // The scheme is http because TLS is the connector's business, not tonic's.
    let origin = format!("http://{}", line.node);
    let endpoint = Endpoint::from_shared(origin).map_err(|error| Failure::of(&line.node, &error))?;
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
    let node = line.node.clone();
    let first = Arc::new(Mutex::new(Some(first)));
    let connector = tower::service_fn(move |_| {
        let (line, first, cause) = (line.clone(), first.clone(), cause.clone());
        async move {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = match ready {
                Some(stream) => stream,
                None => line.dial().await?,
            };
            Ok::<_, std::io::Error>(TokioIo::new(Watched::new(stream, cause)))
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| Failure::of(node, &error))
}

macro_rules! clients {
    ($($name:ident: $client:ident;)*) => {
        impl Session {
            $(pub fn $name(&self) -> $client<Way> { $client::new(self.way.clone()) })*
        }
    };
}

clients! {
    audit: AuditClient;
    capture: CaptureClient;
    cluster: ClusterClient;
    config: ConfigClient;
    etcd: EtcdClient;
    file: FileClient;
    image: ImageClient;
    log: LogClient;
    machine: MachineClient;
    metrics: MetricsClient;
    resource: ResourceClient;
    service_control: ServiceControlClient;
    upgrade: UpgradeClient;
}

impl Session {
    /// Makes a call, and of its status a failure that names the machine.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
        call.await.map(Response::into_inner).map_err(|status| self.failed(&status))
    }

    /// Whether the connection broke, as opposed to the machine's refusing something. The next call makes a new one.
    pub fn is_broken(status: &Status) -> bool {
        status.source().is_some() || status.code() == Code::Unavailable
    }

    pub fn failed(&self, status: &Status) -> Failure {
        let failure = Failure::status(&self.node, status);
        // A status that the machine sent has no source; one of our own side has.
        if status.source().is_some() { broken(failure, &self.cause) } else { failure }
    }
}

/// Says why the connection broke, where that is known.
fn broken(failure: Failure, cause: &Cause) -> Failure {
    let Some(cause) = cause.get() else { return failure };
    let remedy = if cause.contains("received fatal alert") {
        "the machine does not accept this client certificate: use the context of its cluster, or make a new one with `machinectl gen client`"
    } else {
        ""
    };
    Failure { problems: vec![cause], ..failure }.remedy(remedy)
}
