//! Reading certificates, and judging them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::{PkiError, San};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Common name of who signed it.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    pub sans: Vec<San>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub is_authority: bool,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn inspect(pem: &str) -> Result<Certificate, PkiError> {
        with_parsed(pem, |certificate| Ok(read(certificate)))
    }

    /// Reads all certificates of a PEM text, with their DER.
    pub(super) fn inspect_all(pem: &str) -> Result<Vec<(Certificate, Vec<u8>)>, PkiError> {
        blocks(pem)?.into_iter().map(|block| Ok((Certificate::inspect_der(&block.contents)?, block.contents))).collect()
    }

    /// Reads a certificate in DER, as TLS peers present it.
    pub fn inspect_der(der: &[u8]) -> Result<Certificate, PkiError> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| PkiError::Parse { what: "certificate" })?;
        Ok(read(&certificate))
    }

    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Checks that one of the authorities signed the certificate and that both are valid now.
pub fn verify_chain(certificate_pem: &str, authorities_pem: &str, now: SystemTime) -> Result<(), PkiError> {
    let mut verdict = Err(PkiError::Parse { what: "authority's certificate" });
    for block in blocks(authorities_pem)? {
        let authority = block.parse_x509().map_err(|_| PkiError::Parse { what: "authority's certificate" })?;
        verdict = with_parsed(certificate_pem, |certificate| verify(certificate, &authority, now));
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

fn verify(certificate: &X509Certificate<'_>, authority: &X509Certificate<'_>, now: SystemTime) -> Result<(), PkiError> {
    let subject = common_name(certificate.subject());
    if certificate.issuer() != authority.subject() || certificate.verify_signature(Some(authority.public_key())).is_err() {
        return Err(PkiError::NotSignedBy { subject, authority: common_name(authority.subject()) });
    }
    [authority, certificate].into_iter().map(read).try_for_each(|certificate| valid_now(certificate, now))
}

fn valid_now(certificate: Certificate, now: SystemTime) -> Result<(), PkiError> {
    if certificate.is_valid_at(now) {
        return Ok(());
    }
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (not_before, not_after) = (seconds(certificate.not_before), seconds(certificate.not_after));
    Err(PkiError::NotValidNow { subject: certificate.common_name, not_before, not_after })
}

/// A certificate in DER as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// SHA-256 of the certificate, as people compare it: `AB:CD:...`.
pub fn fingerprint(pem: &str) -> Result<String, PkiError> {
    let block = first_block(pem)?;
    let octets: Vec<String> = Sha256::digest(&block.contents).iter().map(|octet| format!("{octet:02X}")).collect();
    Ok(octets.join(":"))
}

/// When to renew: after two thirds of the certificate's life, and up to a tenth of it later by `jitter` (0 to 1), so that machines
/// made together do not renew together.
pub fn renewal_time(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or(Duration::ZERO);
    not_before + life.mul_f64(2.0 / 3.0 + jitter.clamp(0.0, 1.0) / 10.0)
}

/// Whether [`renewal_time`] has come. A certificate from the future is renewed as well: it was made under a wrong clock.
pub fn renewal_due(not_before: SystemTime, not_after: SystemTime, now: SystemTime, jitter: f64) -> bool {
    now < not_before || renewal_time(not_before, not_after, jitter) <= now
}

fn first_block(pem: &str) -> Result<Pem, PkiError> {
    blocks(pem)?.into_iter().next().ok_or(PkiError::Parse { what: "certificate" })
}

fn blocks(pem: &str) -> Result<Vec<Pem>, PkiError> {
    let certificate = |block: Result<Pem, _>| block.ok().filter(|block| block.label == "CERTIFICATE");
    Pem::iter_from_buffer(pem.as_bytes()).map(|block| certificate(block).ok_or(PkiError::Parse { what: "certificate" })).collect()
}

fn with_parsed<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> Result<T, PkiError>) -> Result<T, PkiError> {
    let block = first_block(pem)?;
    let certificate = block.parse_x509().map_err(|_| PkiError::Parse { what: "certificate" })?;
    read(&certificate)
}

fn read(certificate: &X509Certificate<'_>) -> Certificate {
    let subject = certificate.subject();
    let organizations = subject.iter_organization().filter_map(|part| part.as_str().ok()).map(str::to_owned).collect();
    Certificate {
        common_name: common_name(subject),
        organizations,
        issuer: common_name(certificate.issuer()),
        serial: format!("{:x}", certificate.serial),
        sans: sans(certificate),
        not_before: system_time(certificate.validity().not_before),
        not_after: system_time(certificate.validity().not_after),
        is_authority: certificate.is_ca(),
        public_key: certificate.public_key().raw.to_vec(),
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().filter_map(|part| part.as_str().ok()).next().unwrap_or_default().to_owned()
}

fn sans(certificate: &X509Certificate<'_>) -> Vec<San> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let convert = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
        GeneralName::IPAddress(octets) => address(octets).map(San::Ip),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(convert).collect()
}

pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4().or_else(v6)
}

fn system_time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
