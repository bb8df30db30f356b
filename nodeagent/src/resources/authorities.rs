//! The authorities whose keys this control plane got when it joined.

use std::time::SystemTime;

use controlplane::pki::{Certificate, fingerprint};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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

/// To the second, in UTC.
pub fn date(time: SystemTime) -> String {
    let date = OffsetDateTime::from(time);
    date.replace_nanosecond(0).unwrap_or(date).format(&Rfc3339).unwrap_or_default()
}
