//! The keys of a test cluster, and TLS with them.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use controlplane::client_config::ClientConfig;
use controlplane::generate::issue_client;
use controlplane::pki::{AuthorityId, CertificateRequest, Issued, MachineRole, San, Usage, fingerprint, self_signed};
use controlplane::secrets::Secrets;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(86_400);

/// Making keys takes a moment: one set for all tests.
pub static SECRETS: LazyLock<Secrets> = LazyLock::new(|| Secrets::generate(SystemTime::now()).expect("secrets"));

/// The machine's side of TLS.
#[derive(Clone)]
pub struct Identity {
    pub tls: Arc<ServerConfig>,
    pub fingerprint: String,
}

fn request() -> CertificateRequest {
    let sans = vec![San::Ip(Ipv4Addr::LOCALHOST.into()), San::Dns("cp-1.example.com".to_owned())];
    CertificateRequest { common_name: "cp-1".to_owned(), organization: None, sans, usage: Usage::Server, lifetime: DAY }
}

fn identity(issued: &Issued, clients: Option<&str>) -> Identity {
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.reveal().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(authority)).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut tls = builder.with_single_cert(vec![certificate(&issued.certificate_pem)], key).expect("a server");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Identity { tls: Arc::new(tls), fingerprint: fingerprint(&issued.certificate_pem).expect("a fingerprint") }
}

/// A machine of the cluster, which asks its callers for a certificate of the cluster.
pub fn member() -> Identity {
    let issued = SECRETS.issue(AuthorityId::Machine, &request(), SystemTime::now()).expect("a certificate");
    identity(&issued, Some(&SECRETS.certificate_authorities.machine.certificate))
}

/// A machine in maintenance.
pub fn maintenance() -> Identity {
    identity(&self_signed(&request(), SystemTime::now()).expect("a certificate"), None)
}

/// The client config of an administrator.
pub fn client_config(endpoints: &[String]) -> ClientConfig {
    of_secrets(&SECRETS, endpoints)
}

/// The client config of another cluster's administrator.
pub fn strangers_client_config(endpoints: &[String]) -> ClientConfig {
    of_secrets(&Secrets::generate(SystemTime::now()).expect("secrets"), endpoints)
}

fn of_secrets(secrets: &Secrets, endpoints: &[String]) -> ClientConfig {
    let context = issue_client(secrets, MachineRole::Admin, "alice", DAY, endpoints.to_vec(), SystemTime::now());
    let mut config = ClientConfig::default();
    config.add("demo", context.expect("a context"));
    config
}
