//! A machine as its clients see it, and clients of all kinds.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use api::v1::StreamMetricsRequest;
use api::v1::metrics_server::{self, MetricsServer};
use controlplane::generate::{Options, generate};
use controlplane::pki::{AuthorityId, CertificateId, CertificateRequest, Issued, MachineRole, San, Usage, machine_client};
use controlplane::secrets::Secrets;
use hyper_util::rt::TokioIo;
use machine::Root;
use machine::protocol::{BootFacts, VolumeState};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

pub use super::init::{Init, read, service};
use crate::admission::Admission;
use crate::audit::Audit;
use crate::bootstrap::Bootstrap;
use crate::clock::Clock;
use crate::config::Configs;
use crate::controller;
use crate::failpoint::Failpoints;
use crate::identity::Identity;
use crate::init_client::InitClient;
use crate::init_events;
use crate::node::Node;
use crate::power::Power;
use crate::resources::cluster::Certificate;
use crate::resources::link::Link;
use crate::resources::network::{Address, AddressState};
use crate::reviews::Reviews;
use crate::server::metrics::Metrics;
use crate::server::{Api, serve, tls};
use crate::upgrade::Upgrades;
use crate::usage;

pub const DAY: Duration = Duration::from_secs(86_400);

/// One cluster's secrets for all tests: authorities are slow to make.
pub fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| Secrets::generate(SystemTime::now()).unwrap())
}

/// A machine config of the first control plane.
pub fn config() -> String {
    let options = Options::new(SystemTime::now());
    generate("demo", "https://192.0.2.10:6443", secrets(), &options).unwrap().controlplane.to_yaml()
}

/// The same with another time-out of the watchdog.
pub fn config_with_watchdog(timeout: &str) -> String {
    let text = config();
    assert!(text.contains("\nmachine:\n") && !text.contains("watchdog"), "{text}");
    text.replacen("\nmachine:\n", &format!("\nmachine:\n  watchdog: {{ timeout: {timeout} }}\n"), 1)
}

pub struct Machine {
    /// None where somebody else keeps it.
    _directory: Option<tempfile::TempDir>,
    pub root: Root,
    pub node: Node,
    pub init: Init,
    pub address: SocketAddr,
    pub fingerprint: String,
    pub audit: Audit,
}

impl Machine {
    /// In maintenance, with STATE open.
    pub async fn new() -> Machine {
        Machine::with_state(VolumeState::Open).await
    }

    pub async fn with_state(state: VolumeState) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let init = |root: &Root| Init::start(&root.init_socket(), state);
        let machine = Machine::start(Root::new(directory.path()), init).await;
        Machine { _directory: Some(directory), ..machine }
    }

    /// On a disk with slots, from which it was booted.
    pub async fn on_disk(root: Root, facts: BootFacts) -> Machine {
        let init = |root: &Root| Init::of_boot(&root.init_socket(), facts);
        Machine::start(root, init).await.with_config().await
    }

    /// From an installation medium, in maintenance.
    pub async fn on_medium(root: Root, facts: BootFacts) -> Machine {
        let init = |root: &Root| Init::of_medium(&root.init_socket(), facts);
        Machine::start(root, init).await
    }

    /// With STATE open and whatever the root holds, at an address of the caller's choice.
    pub async fn at(root: Root, address: SocketAddr) -> Machine {
        let init = |root: &Root| Init::start(&root.init_socket(), VolumeState::Open);
        Machine::start_at(root, init, address).await
    }

    async fn start(root: Root, init: impl FnOnce(&Root) -> Init) -> Machine {
        Machine::start_at(root, init, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn start_at(root: Root, init: impl FnOnce(&Root) -> Init, address: SocketAddr) -> Machine {
        let init = init(&root);
        let Served { node, address, fingerprint, audit } = serve_at(&root, address).await;
        Machine { _directory: None, root, node, init, address, fingerprint, audit }
    }

    /// With a certificate of the machine authority, and the config in force.
    pub async fn configured() -> Machine {
        Machine::new().await.with_config().await
    }

    async fn with_config(self) -> Machine {
        self.apply_first().await;
        let certificate = issue("cp-1", None, Usage::Both, DAY, SystemTime::now());
        std::fs::write(self.root.pki().join("machine.key"), certificate.key_pem.reveal()).unwrap();
        std::fs::write(self.root.pki().join("machine.crt"), &certificate.certificate_pem).unwrap();
        // As the pki controller tells of it on the board, whereupon the identity looks at the files.
        let told = Certificate { subject: "cp-1".to_owned(), ..Certificate::default() };
        self.node.store.put(CertificateId::Machine.name(), &told);
        self.until_serving_its_certificate().await;
        self
    }

    async fn apply_first(&self) {
        let request = api::v1::ApplyRequest { document: config().into_bytes(), ..Default::default() };
        let mut client = api::v1::config_client::ConfigClient::new(self.stranger().await.unwrap());
        client.apply(request).await.unwrap();
        self.until_event("certificate/machine Serving").await;
    }

    async fn until_serving_its_certificate(&self) {
        for _ in 0..3000 {
            if self.client(MachineRole::Admin).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the machine does not show its certificate");
    }

    /// Without a certificate of its own; knows the machine by the fingerprint on the console.
    pub async fn stranger(&self) -> Result<Channel, tonic::transport::Error> {
        self.connect(client_config(&[&TLS13], Trust::Fingerprint(self.fingerprint.clone()), None)).await
    }

    pub async fn client(&self, role: MachineRole) -> Result<Channel, tonic::transport::Error> {
        let issued = secrets().issue(AuthorityId::Machine, &machine_client(role, "alice", DAY), SystemTime::now()).unwrap();
        self.connect(client_config(&[&TLS13], Trust::Authority, Some(&issued))).await
    }

    pub async fn admin(&self) -> Channel {
        self.client(MachineRole::Admin).await.unwrap()
    }

    pub async fn connect(&self, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
        let (address, connector) = (self.address, TlsConnector::from(Arc::new(config)));
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        Endpoint::from_static("http://machine").connect_with_connector(connect).await
    }

    /// Puts a link with an address on the board.
    pub fn connect_link(&self, name: &str, address: &str) {
        let link = Link { index: 2, kind: "ethernet".to_owned(), mtu: 1500, up: true, carrier: true, ..Link::default() };
        self.node.store.put(name, &link);
        let address = Address { link: name.to_owned(), address: address.parse().unwrap(), owned: true, state: AddressState::default() };
        self.node.store.put(&address.name(), &address);
    }

    pub fn console(&self) -> String {
        std::fs::read_to_string(self.root.path("/dev/console")).unwrap()
    }

    /// Messages of all events so far.
    pub fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(event) = self.node.events.next(from) {
            from = event.number + 1;
            events.push(format!("{} {}: {}", event.subject, event.reason, event.message));
        }
        events
    }

    /// Waits for an event with these words.
    pub async fn until_event(&self, words: &str) -> String {
        let mut newest = self.node.events.newest();
        let found = async {
            loop {
                newest.mark_unchanged();
                if let Some(event) = self.events().into_iter().find(|event| event.contains(words)) {
                    return event;
                }
                newest.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .unwrap_or_else(|_| panic!("no event with {words:?} in {:#?}", self.events()))
    }
}

/// A certificate of the machine authority.
pub fn issue(name: &str, organization: Option<&str>, usage: Usage, lifetime: Duration, now: SystemTime) -> Issued {
    let sans = if usage == Usage::Client { Vec::new() } else { San::loopback() };
    let request = CertificateRequest { common_name: name.to_owned(), organization: organization.map(str::to_owned), sans, usage, lifetime };
    secrets().issue(AuthorityId::Machine, &request, now).unwrap()
}

/// How a client knows the machine.
#[derive(Debug, Clone)]
pub enum Trust {
    Authority,
    /// Another cluster's machine authority, in PEM.
    Of(String),
    Fingerprint(String),
}

fn roots(pem: &str) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    roots
}

pub fn client_config(versions: &[&'static SupportedProtocolVersion], trust: Trust, own: Option<&Issued>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(versions).unwrap();
    let builder = match trust {
        Trust::Authority => builder.with_root_certificates(roots(&secrets().certificate_authorities.machine.certificate)),
        Trust::Of(pem) => builder.with_root_certificates(roots(&pem)),
        Trust::Fingerprint(fingerprint) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned(fingerprint))),
    };
    let mut config = match own {
        Some(own) => {
            let chain = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key_pem.reveal().as_bytes()).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub fn tls12() -> ClientConfig {
    let issued = secrets().issue(AuthorityId::Machine, &machine_client(MachineRole::Admin, "alice", DAY), SystemTime::now()).unwrap();
    client_config(&[&TLS12], Trust::Authority, Some(&issued))
}

pub fn tls13(own: &Issued) -> ClientConfig {
    client_config(&[&TLS13], Trust::Authority, Some(own))
}

pub fn without_certificate() -> ClientConfig {
    client_config(&[&TLS13], Trust::Authority, None)
}

#[derive(Debug)]
struct Pinned(String);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if hex::encode(Sha256::digest(end_entity)) == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("another fingerprint".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &tls::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An agent that listens.
pub struct Served {
    pub node: Node,
    pub address: SocketAddr,
    pub fingerprint: String,
    pub audit: Audit,
}

/// Starts the machine API of the machine with this root, whose init answers already.
pub async fn serve_at(root: &Root, address: SocketAddr) -> Served {
    std::fs::create_dir_all(root.path("/dev")).unwrap();
    std::fs::write(root.path("/dev/console"), "").unwrap();
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    init_events::ask(&node).await.unwrap();
    let identity = Identity::new(root, SystemTime::now()).unwrap();
    let credentials = identity.credentials();
    let fingerprint = credentials.borrow().fingerprint();
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = api(&node);
    api.upgrades.settle().await;
    let audit = api.audit.clone();
    tokio::spawn(controller::run(identity, node.clone()));
    tokio::spawn(init_events::follow(node.clone()));
    tokio::spawn(async move { serve(listener, credentials, api).await.unwrap() });
    Served { node, address, fingerprint, audit }
}

/// What the methods work on, at a machine whose figures do not change.
pub fn api(node: &Node) -> Api {
    let power = Power::new(node.clone());
    Api {
        configs: Arc::new(Configs::new(node.clone(), Clock::new(&node.root))),
        bootstrap: Arc::new(Bootstrap::new(node.clone())),
        admission: Admission::new(node.clone()),
        upgrades: Arc::new(Upgrades::new(node.clone(), power.clone(), Failpoints::default())),
        power,
        audit: Audit::start(node.clone()),
        usage: usage::Usage::of(super::scrapes::snapshot(), super::scrapes::names()),
        reviews: Reviews::new(node.clone()),
        node: node.clone(),
    }
}

/// The service that tells what the machine uses, and no more of the machine API; whoever shows a certificate may ask.
pub fn only_metrics(usage: usage::Usage) -> Routes {
    Routes::new(MetricsServer::new(Metrics(usage)))
}

/// The same of an image that knows of no heartbeats.
pub fn only_figures(usage: usage::Usage) -> Routes {
    Routes::new(MetricsServer::new(Figures(Metrics(usage))))
}

struct Figures(Metrics);

#[tonic::async_trait]
impl metrics_server::Metrics for Figures {
    type StreamStream = <Metrics as metrics_server::Metrics>::StreamStream;

    async fn stream(&self, mut request: Request<StreamMetricsRequest>) -> Result<Response<Self::StreamStream>, Status> {
        request.get_mut().heartbeat = None;
        metrics_server::Metrics::stream(&self.0, request).await
    }
}
