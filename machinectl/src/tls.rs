//! Whom machinectl trusts, as rustls has it: TLS 1.3 only.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use controlplane::client_config::Context;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// SHA-256 of a certificate (DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate.as_ref()).into())
    }
}

impl FromStr for Fingerprint {
    type Err = String;
    /// As the console shows it; `sha256:` and colons between the bytes may be left out.
    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let prefix = text.get(..7).filter(|prefix| prefix.eq_ignore_ascii_case("sha256:"));
        let digits: String = text[prefix.map_or(0, str::len)..].chars().filter(|c| *c != ':').collect();
        let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Fingerprint).ok_or_else(|| "expected sha256: and 64 hexadecimal digits, as the machine's console shows".to_owned())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a machine proves who it is, and how we do.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By the machine authority; we show the context's certificate.
    Cluster(Box<Context>),
    /// A machine in maintenance: by its fingerprint. Without one, whatever it shows is taken. We show nothing.
    Maintenance(Option<Fingerprint>),
}

impl Trust {
    /// The configuration, and where the fingerprint of the last server is found after a handshake without a pin.
    pub fn configuration(&self) -> Result<(ClientConfig, Seen), Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |error: Error| Failure::of("TLS", &error);
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13]).map_err(failed)?;
        let seen = Seen::default();
        let mut configuration = match self {
            Trust::Cluster(context) => {
                let (authority, certificates, key) = read(context)?;
                let verifier = WebPkiServerVerifier::builder_with_provider(authority, provider).build();
                let verifier = verifier.map_err(|error| Failure::of("client config: ca", &error))?;
                let builder = builder.with_webpki_verifier(verifier);
                builder.with_client_auth_cert(certificates, key).map_err(|error| Failure::of("client config: certificate", &error))?
            }
            Trust::Maintenance(pinned) => {
                let verifier = Pin { pinned: *pinned, provider, seen: seen.clone() };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
        };
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        Ok((configuration, seen))
    }
}

type ClientPair = (Arc<RootCertStore>, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(context: &Context) -> Result<ClientPair, Failure> {
    let wrong = |field: &str| {
        Failure::new("client config", format!("{field} holds no readable PEM")).remedy("make a new one with `machinectl gen client`")
    };
    let mut roots = RootCertStore::empty();
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(context.ca.as_bytes()).collect();
    let authorities = authorities.ok().filter(|all| !all.is_empty()).ok_or_else(|| wrong("ca"))?;
    for authority in authorities {
        roots.add(authority).map_err(|_| wrong("ca"))?;
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(context.certificate.as_bytes()).collect();
    let certificates = certificates.ok().filter(|all| !all.is_empty()).ok_or_else(|| wrong("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(context.key.reveal().as_bytes()).map_err(|_| wrong("key"))?;
    Ok((Arc::new(roots), certificates, key))
}

/// What the last server showed.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Fingerprint>>>);

impl Seen {
    pub fn get(&self) -> Option<Fingerprint> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fingerprint: Fingerprint) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
    }
}

/// Accepts the one certificate that the user saw on the console, whatever name it is for. That the server holds its key is proved as ever.
#[derive(Debug)]
struct Pin {
    pinned: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
    seen: Seen,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(certificate);
        self.seen.set(shown);
        match self.pinned {
            Some(pinned) if pinned != shown => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_every_usual_form() {
        let plain = "00".repeat(31) + "Ab";
        let shown = format!("sha256:{}", plain.to_lowercase());
        let colons = plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect::<Vec<_>>().join(":");
        for text in [plain.clone(), shown.clone(), colons.clone(), format!("SHA256:{colons}")] {
            assert_eq!(text.parse::<Fingerprint>().expect("a fingerprint").to_string(), shown);
        }
        for wrong in ["", "sha256:", "sha256:00", &plain[1..], &format!("{plain}00"), &plain.replace('b', "g"), "é"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
