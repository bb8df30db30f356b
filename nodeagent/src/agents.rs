//! Connections to the agents of other machines: over TLS 1.3, and to nobody but a machine of this cluster, or a control plane of it. A token or
//! a key goes to no server that was not verified.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use controlplane::pki::{Authority, AuthorityId, CONTROL_PLANE_NAME, Issued, MachineRole, machine_client};
use hyper_util::rt::TokioIo;
use machine::config::HostPort;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::clock;
use crate::controllers::machine::Machine;
use crate::names;
use crate::node::Node;
use crate::server::tls;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Of a certificate that is made for one connection.
const LIFETIME: Duration = Duration::from_secs(600);

/// Who calls, and whom it believes.
#[derive(Debug, Clone, Copy)]
pub struct Dial<'a> {
    /// PEM of the machine authority.
    pub authority_pem: &'a str,
    /// The machine's certificate; none before it has one.
    pub own: Option<&'a Issued>,
    /// Addresses of this machine to call from: the other side learns by them that they are its own. None: whichever the kernel takes.
    pub from: &'a [IpAddr],
    pub whom: Whom,
}

/// Which machines are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Every machine of the cluster has a certificate of the same authority; this has to be a control plane's. Its answers have a deadline.
    ControlPlane,
    /// How long an answer may take is the caller's.
    AnyMachine,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{server} cannot be reached: {why}")]
    Unreachable { server: String, why: String },
    #[error("{server} shows a certificate that is not of this cluster's machine authority")]
    ForeignAuthority { server: String },
    #[error("{server} shows a certificate that is not valid by this machine's clock: it is valid from {begin} to {end}")]
    Clock { server: String, now: SystemTime, begin: String, end: String },
    #[error("{server} shows a certificate that is not for this address")]
    OtherName { server: String },
    #[error("{server} is no control plane of this cluster")]
    NoControlPlane { server: String },
    #[error("{server} ended the TLS handshake: {why}")]
    Handshake { server: String, why: String },
    #[error("this machine's own certificate cannot be used: {why}")]
    Own { why: String },
}

/// A connection for a few calls; it is not made anew once it ends.
pub async fn connect(node: &Node, server: &HostPort, dial: Dial<'_>) -> Result<Channel, Trouble> {
    let unreachable = |why: String| Trouble::Unreachable { server: server.to_string(), why };
    let addresses = names::addresses(node, &server.host.to_string()).await.map_err(|error| unreachable(format!("{error:#}")))?;
    let config = Arc::new(client_config(dial).map_err(|error| Trouble::Own { why: format!("{error:#}") })?);
    let mut trouble = unreachable("it has no address".to_owned());
    for address in addresses.into_iter().map(|ip| SocketAddr::new(ip, server.port)) {
        let connected = async { shake(open(address, dial.from).await.map_err(unreachable)?, server, config.clone()).await };
        match connected.await {
            Ok(stream) => return channel(stream, dial.whom).await.map_err(|error| unreachable(error.to_string())),
            Err(other) => trouble = other,
        }
    }
    Err(trouble)
}

/// As a control plane calls any machine: in this role, by a certificate that it makes for the one connection, since it holds the machine authority.
pub async fn connect_as(node: &Node, machine: &Machine, server: &HostPort, role: MachineRole) -> anyhow::Result<Channel> {
    let authority = &machine.config.cluster.certificate_authorities.machine;
    let key = authority.key.as_ref().context("this machine has no key of the machine authority yet")?;
    let issuer = Authority::from_pem(&authority.certificate, key.reveal()).context(AuthorityId::Machine.name())?;
    let own = issuer.issue(&machine_client(role, &machine.facts.node_name, LIFETIME), SystemTime::now())?;
    let dial = Dial { authority_pem: &authority.certificate, own: Some(&own), from: &[], whom: Whom::AnyMachine };
    Ok(connect(node, server, dial).await?)
}

/// From one of this machine's own addresses of the same family, unless it calls itself.
async fn open(address: SocketAddr, from: &[IpAddr]) -> Result<TcpStream, String> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(|error| error.to_string())?;
    let own = from.iter().find(|ip| ip.is_ipv4() == address.is_ipv4());
    if let Some(own) = own.filter(|_| !address.ip().is_loopback()) {
        socket.bind(SocketAddr::new(*own, 0)).map_err(|error| format!("calling from {own}: {error}"))?;
    }
    match timeout(CONNECT_DEADLINE, socket.connect(address)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT_DEADLINE.as_secs())),
    }
}

async fn shake(stream: TcpStream, server: &HostPort, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Trouble> {
    let handshake = |why: String| Trouble::Handshake { server: server.to_string(), why };
    let name = names::server_name(&server.host).map_err(|error| handshake(error.to_string()))?;
    match timeout(HANDSHAKE_DEADLINE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(judge(&error, server)),
        Err(_) => Err(handshake(format!("no answer within {} s", HANDSHAKE_DEADLINE.as_secs()))),
    }
}

/// What a failed handshake says of the server.
fn judge(error: &std::io::Error, server: &HostPort) -> Trouble {
    let server = server.to_string();
    let date = |time: &UnixTime| clock::date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    let now = SystemTime::now();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::ForeignAuthority { server },
            CertificateError::ExpiredContext { not_after, .. } => {
                Trouble::Clock { server, now, begin: "an earlier time".to_owned(), end: date(not_after) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Trouble::Clock { server, now, begin: date(not_before), end: "a later time".to_owned() }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Trouble::OtherName { server },
            CertificateError::ApplicationVerificationFailure => Trouble::NoControlPlane { server },
            other => Trouble::Handshake { server, why: other.to_string() },
        },
        _ => Trouble::Handshake { server, why: error.to_string() },
    }
}

async fn channel(stream: TlsStream<TcpStream>, whom: Whom) -> Result<Channel, tonic::transport::Error> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let take = tower::service_fn(move |_: http::Uri| {
        let taken = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
    });
    let endpoint = Endpoint::from_static("http://agent");
    let endpoint = match whom {
        Whom::ControlPlane => endpoint.timeout(ANSWER_DEADLINE),
        Whom::AnyMachine => endpoint,
    };
    endpoint.connect_with_connector(take).await
}

fn client_config(dial: Dial<'_>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(dial.authority_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build()?;
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match dial.whom {
        Whom::ControlPlane => builder.dangerous().with_custom_certificate_verifier(Arc::new(ControlPlanes(verifier))),
        Whom::AnyMachine => builder.with_webpki_verifier(verifier),
    };
    let mut config = match dial.own {
        Some(own) => {
            let chain = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key_pem.reveal().as_bytes())?)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// As webpki judges, and the certificate has to be a control plane's.
#[derive(Debug)]
struct ControlPlanes(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ControlPlanes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        let refused = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let control_plane = ServerName::try_from(CONTROL_PLANE_NAME).map_err(|_| refused.clone())?;
        self.0.verify_server_cert(end_entity, intermediates, &control_plane, ocsp, now).map_err(|_| refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
