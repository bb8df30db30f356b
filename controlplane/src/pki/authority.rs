//! A certificate authority and what it issues.

use std::fmt;
use std::time::{Duration, SystemTime};

use machine::config::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::{BACKDATE, Certificate, CertificateRequest, LEAF_BACKDATE, PkiError, San, Usage};

/// A certificate authority with its key.
pub struct Authority {
    name: String,
    certificate_pem: String,
    not_before: SystemTime,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: Secret,
}

impl Authority {
    /// Makes a new authority that is valid for `validity`.
    pub fn generate(name: &str, now: SystemTime, validity: Duration) -> Result<Authority, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Sign)?;
        let mut params = validity_params(name, back(now, BACKDATE), now + validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate_pem = params.self_signed(&key).map_err(PkiError::Sign)?.pem();
        Authority::from_parts(&certificate_pem, key)
    }

    /// Reads an authority. Of several certificates, as they stand there while authorities change, it is the one that the key belongs to.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|_| PkiError::Parse { what: "authority's key" })?;
        Authority::from_parts(certificate_pem, key)
    }

    fn from_parts(certificate_pem: &str, key: KeyPair) -> Result<Authority, PkiError> {
        let all = Certificate::inspect_all(certificate_pem)?;
        let first = all.first().map(|(certificate, _)| certificate.common_name.clone());
        let own = all.into_iter().find(|(certificate, _)| certificate.public_key == key.subject_public_key_info());
        let Some((certificate, der)) = own else {
            return Err(first.map_or(PkiError::Parse { what: "authority's certificate" }, |subject| PkiError::KeyMismatch { subject }));
        };
        let subject = certificate.common_name;
        if !certificate.is_authority {
            return Err(PkiError::NotAnAuthority { subject });
        }
        let issuer = Issuer::from_ca_cert_der(&der.into(), key).map_err(|_| PkiError::Parse { what: "authority's certificate" })?;
        let (not_before, not_after) = (certificate.not_before, certificate.not_after);
        Ok(Authority { name: subject, certificate_pem: certificate_pem.to_owned(), not_before, not_after, issuer })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// All certificates that it was read with.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn key_pem(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// Makes a key and certifies it.
    pub fn issue(&self, request: &CertificateRequest, now: SystemTime) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Sign)?;
        let certificate_pem = self.certify(&key, request, now)?;
        Ok(Issued { certificate_pem, key_pem: Secret::new(key.serialize_pem()) })
    }

    /// Certifies the key of a signing request. Only the key is taken from it: who the certificate is for is the caller's decision.
    pub fn issue_for(&self, signing_request_pem: &str, request: &CertificateRequest, now: SystemTime) -> Result<String, PkiError> {
        let parsed =
            CertificateSigningRequestParams::from_pem(signing_request_pem).map_err(|_| PkiError::Parse { what: "signing request" })?;
        self.certify(&parsed.public_key, request, now)
    }

    fn certify(&self, key: &impl PublicKeyData, request: &CertificateRequest, now: SystemTime) -> Result<String, PkiError> {
        if self.not_after <= now {
            return Err(PkiError::AuthorityExpired { subject: request.common_name.clone(), authority: self.name.clone() });
        }
        let begin = self.not_before.max(back(now, LEAF_BACKDATE));
        let end = self.not_after.min(now + request.lifetime);
        let params = leaf_params(request, begin, end)?;
        Ok(params.signed_by(key, &self.issuer).map_err(PkiError::Sign)?.pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.name)
    }
}

/// A certificate that vouches for itself: the machine API in maintenance mode, known by its fingerprint.
pub fn self_signed(request: &CertificateRequest, now: SystemTime) -> Result<Issued, PkiError> {
    let key = KeyPair::generate().map_err(PkiError::Sign)?;
    let params = leaf_params(request, back(now, LEAF_BACKDATE), now + request.lifetime)?;
    let certificate_pem = params.self_signed(&key).map_err(PkiError::Sign)?.pem();
    Ok(Issued { certificate_pem, key_pem: Secret::new(key.serialize_pem()) })
}

/// The public half of a private key, in PEM.
pub fn public_key_pem(key_pem: &Secret) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem.reveal()).map_err(|_| PkiError::Parse { what: "private key" })?;
    Ok(key.public_key_pem())
}

fn leaf_params(request: &CertificateRequest, begin: SystemTime, end: SystemTime) -> Result<CertificateParams, PkiError> {
    let mut params = validity_params(&request.common_name, begin, end)?;
    params.distinguished_name = subject(request);
    params.subject_alt_names = sans(request)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match request.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(params)
}

/// Name, time and a random serial: rcgen would derive the serial from the key, and the same key may be certified twice.
fn validity_params(name: &str, begin: SystemTime, end: SystemTime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = date(name, begin)?;
    params.not_after = date(name, end)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(PkiError::Random)?;
    // RFC 5280, 4.1.2.2: a positive number.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// A time before another, at the earliest the year 1970.
fn back(from: SystemTime, by: Duration) -> SystemTime {
    from.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
}

/// A date that X.509 can express: years 1970 to 9999.
fn date(name: &str, time: SystemTime) -> Result<OffsetDateTime, PkiError> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::BadTime { subject: name.to_owned() })
}

pub(super) fn subject(request: &CertificateRequest) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = &request.organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, &request.common_name);
    name
}

pub(super) fn sans(request: &CertificateRequest) -> Result<Vec<SanType>, PkiError> {
    let bad = |name: &str| PkiError::BadName { subject: request.common_name.clone(), name: name.to_owned() };
    let convert = |san: &San| match san {
        San::Ip(address) => Ok(SanType::IpAddress(*address)),
        San::Dns(name) => name.as_str().try_into().map(SanType::DnsName).map_err(|_| bad(name)),
    };
    request.sans.iter().map(convert).collect()
}
