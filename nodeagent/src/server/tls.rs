//! What the machine API shows of itself and asks of its callers in a TLS handshake. TLS 1.3 only.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use controlplane::pki::{Certificate, Issued};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};

use super::caller::subject;

/// The server's side of handshakes.
pub struct Credentials {
    key: Arc<CertifiedKey>,
    clients: Clients,
}

/// Who may connect.
enum Clients {
    /// Anybody, without a certificate: maintenance.
    Anybody,
    /// Holders of a certificate of the machine authority.
    Certified(Arc<dyn ClientCertVerifier>),
}

/// The subject of the certificate that a client showed, whether it was accepted or not.
pub type Shown = Arc<Mutex<Option<String>>>;

impl Credentials {
    /// For maintenance: the certificate vouches for itself, and nobody is asked for one.
    pub fn open(own: &Issued) -> anyhow::Result<Credentials> {
        Ok(Credentials { key: certified_key(own)?, clients: Clients::Anybody })
    }

    /// For a configured machine: clients show a certificate of the machine authority. Where strangers may come (machines that join, scrapers with a
    /// token), those that show none get as far as the permission table.
    pub fn mutual(own: &Issued, authority_pem: &str, strangers: bool) -> anyhow::Result<Credentials> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
            roots.add(certificate.context("reading the machine authority's certificate")?).context("trusting the machine authority")?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if strangers { builder.allow_unauthenticated() } else { builder };
        let verifier = builder.build().context("trusting the machine authority")?;
        Ok(Credentials { key: certified_key(own)?, clients: Clients::Certified(verifier) })
    }

    /// Whether everybody is a stranger: maintenance.
    pub fn are_open(&self) -> bool {
        matches!(self.clients, Clients::Anybody)
    }

    /// SHA-256 of the server's certificate, lower-case hex.
    pub fn fingerprint(&self) -> String {
        self.key.cert.first().map(|certificate| hex::encode(Sha256::digest(certificate))).unwrap_or_default()
    }

    /// The settings of one handshake; `shown` learns whose certificate the client shows. Sessions are not resumed: each connection
    /// checks the client's certificate anew.
    pub fn server_config(&self, shown: &Shown) -> anyhow::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match &self.clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::Certified(verifier) => {
                builder.with_client_cert_verifier(Arc::new(Noting { verifier: verifier.clone(), shown: shown.clone() }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.fingerprint())
    }
}

/// The one set of algorithms of this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certified_key(own: &Issued) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.context("reading the machine's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.reveal().as_bytes()).context("reading the machine's key")?;
    let key = CertifiedKey::from_der(chain, key, &provider()).context("pairing the machine's certificate and key")?;
    Ok(Arc::new(key))
}

/// Notes whose certificate is shown, and leaves the judgement to webpki.
#[derive(Debug)]
struct Noting {
    verifier: Arc<dyn ClientCertVerifier>,
    shown: Shown,
}

impl ClientCertVerifier for Noting {
    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let name = Certificate::inspect_der(end_entity).map_or_else(|error| error.to_string(), |certificate| subject(&certificate));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        self.verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
