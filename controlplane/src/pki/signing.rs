//! Requests to certify a key (PKCS#10): making them, and reading those of others.

use machine::config::Secret;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::authority::{sans, subject};
use super::certificate::address;
use super::{CertificateRequest, Issued, PkiError, San};

/// A key and the request to certify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    pub request_pem: String,
    pub key_pem: Secret,
}

impl Unsigned {
    /// With the certificate that came of it.
    pub fn certified(self, certificate_pem: String) -> Issued {
        Issued { certificate_pem, key_pem: self.key_pem }
    }
}

/// What a request asks for. Its signature was checked: whoever made it has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub sans: Vec<San>,
    /// What a request may hold and ours never does: further parts of the subject, names of other kinds, other extensions.
    pub oddities: Vec<String>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// PEM, PKCS#8.
pub fn new_key() -> Result<Secret, PkiError> {
    Ok(Secret::new(KeyPair::generate().map_err(PkiError::Sign)?.serialize_pem()))
}

/// The public half of a private key: SubjectPublicKeyInfo, DER.
pub fn public_key(key_pem: &Secret) -> Result<Vec<u8>, PkiError> {
    Ok(pair(key_pem)?.subject_public_key_info())
}

/// A new key and a request for a certificate in this name.
pub fn signing_request(request: &CertificateRequest) -> Result<Unsigned, PkiError> {
    signing_request_for(new_key()?, request)
}

/// The same for a key that is there.
pub fn signing_request_for(key_pem: Secret, request: &CertificateRequest) -> Result<Unsigned, PkiError> {
    let key = pair(&key_pem)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(request);
    params.subject_alt_names = sans(request)?;
    let request_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(PkiError::Sign)?;
    Ok(Unsigned { request_pem, key_pem })
}

fn pair(key_pem: &Secret) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(key_pem.reveal()).map_err(|_| PkiError::Parse { what: "private key" })
}

impl SigningRequest {
    pub fn inspect(pem: &str) -> Result<SigningRequest, PkiError> {
        let unreadable = || PkiError::Parse { what: "signing request" };
        let block = Pem::iter_from_buffer(pem.as_bytes()).next().and_then(Result::ok).ok_or_else(unreadable)?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents).map_err(|_| unreadable())?;
        parsed.verify_signature().map_err(|_| unreadable())?;
        Ok(read(&parsed))
    }

    /// Tells keys apart: SHA-256 of the public key, in hexadecimal.
    pub fn key_id(&self) -> String {
        key_id(&self.public_key)
    }
}

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER), in hexadecimal.
pub fn key_id(public_key: &[u8]) -> String {
    Sha256::digest(public_key).iter().map(|octet| format!("{octet:02x}")).collect()
}

fn read(parsed: &X509CertificationRequest<'_>) -> SigningRequest {
    let info = &parsed.certification_request_info;
    let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().unwrap_or_default().to_owned();
    let common_names: Vec<String> = info.subject.iter_common_name().map(text).collect();
    let organizations: Vec<String> = info.subject.iter_organization().map(text).collect();
    let mut oddities = Vec::new();
    if common_names.len() > 1 || info.subject.iter_attributes().count() > common_names.len() + organizations.len() {
        oddities.push(format!("subject {}", info.subject));
    }
    let mut sans = Vec::new();
    for extension in parsed.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => sans.push(San::Dns((*name).to_owned())),
                        GeneralName::IPAddress(octets) if address(octets).is_some() => sans.extend(address(octets).map(San::Ip)),
                        other => oddities.push(format!("name {other}")),
                    }
                }
            }
            ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_) => {}
            other => oddities.push(format!("extension {other:?}")),
        }
    }
    SigningRequest {
        common_name: common_names.into_iter().next().unwrap_or_default(),
        organizations,
        sans,
        oddities,
        public_key: info.subject_pki.raw.to_vec(),
    }
}
