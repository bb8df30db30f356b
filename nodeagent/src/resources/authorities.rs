//! The authorities whose keys this control plane got when it joined.

use controlplane::pki::{Certificate, fingerprint};
use serde::{Deserialize, Serialize};

use crate::clock::date;
use crate::store::Resource;

pub const KIND: &str = "authorities";

/// An authority, named as in the machine config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    pub subject: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
}

impl Resource for AuthorityStatus {
    const KIND: &'static str = "authorities";
}

impl AuthorityStatus {
    pub fn of(certificate: &Certificate, pem: &str) -> AuthorityStatus {
        AuthorityStatus {
            subject: certificate.common_name.clone(),
            not_after: date(certificate.not_after),
            fingerprint: fingerprint(pem).unwrap_or_default(),
        }
    }
}
