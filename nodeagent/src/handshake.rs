//! What a server on this machine shows and accepts in a TLS handshake: its own certificate, and the authorities whose clients it takes. It is
//! looked at, and nothing is sent: that is why nobody has to be verified.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::server::tls;

const DEADLINE: Duration = Duration::from_secs(5);

/// What a server shows and accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// DER; none of a server without a certificate.
    pub certificate: Option<Vec<u8>>,
    /// Subjects of the authorities whose clients it takes, DER.
    pub accepts: BTreeSet<Vec<u8>>,
}

/// Begins a handshake, and leaves it once both sides have said what they show and accept.
pub async fn look(address: SocketAddr) -> anyhow::Result<Shown> {
    let (server, accepts) = (Arc::new(AnyCertificate::default()), Arc::new(Hints::default()));
    let config = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(server.clone()).with_client_cert_resolver(accepts.clone());
    let shake = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(address.ip().into()), stream).await
    };
    let shaken = timeout(DEADLINE, shake).await.with_context(|| format!("{address} was silent for {} s", DEADLINE.as_secs()))?;
    shaken.with_context(|| format!("shaking hands with {address}"))?;
    let certificate = server.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    let accepts = std::mem::take(&mut *accepts.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Shown { certificate, accepts })
}

/// Takes whatever certificate a server shows, once it has proved that it holds the key, and notes it.
#[derive(Debug, Default)]
pub struct AnyCertificate {
    shown: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &tls::provider().signature_verification_algorithms)
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

/// Notes whose clients a server takes; the handshake goes on without a certificate.
#[derive(Debug, Default)]
struct Hints(Mutex<BTreeSet<Vec<u8>>>);

impl ResolvesClientCert for Hints {
    fn resolve(&self, root_hint_subjects: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = root_hint_subjects.iter().map(|subject| subject.to_vec()).collect();
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use controlplane::pki::{Authority, CertificateRequest, San, Usage, issuing};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::server::tls::{Credentials, Shown as Client};

    #[tokio::test]
    async fn a_server_says_whose_clients_it_takes() {
        let day = Duration::from_secs(86_400);
        let [old, new] = ["machine", "machine 2"].map(|name| Authority::generate(name, SystemTime::now(), day).unwrap());
        let both = format!("{}{}", new.certificate_pem(), old.certificate_pem());
        let request = CertificateRequest {
            common_name: "a".to_owned(),
            organization: None,
            sans: San::loopback(),
            usage: Usage::Server,
            lifetime: day,
        };
        let issued = old.issue(&request, SystemTime::now()).unwrap();
        let server = Credentials::mutual(&issued, &both, false).unwrap().server_config(&Client::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { TlsAcceptor::from(server).accept(listener.accept().await.unwrap().0).await.map(drop) });
        let shown = look(address).await.unwrap();
        let subjects = |pem: &str| crate::controllers::authorities::subjects(pem);
        assert_eq!(shown.accepts, subjects(&both));
        assert_eq!(subjects(issuing(&both)).len(), 1);
        assert_ne!(subjects(issuing(&both)), subjects(old.certificate_pem()));
        let certificate = shown.certificate.unwrap();
        assert_eq!(controlplane::pki::Certificate::inspect_der(&certificate).unwrap().issuer, "machine");
    }
}
