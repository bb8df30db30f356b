//! The cluster's authorities, as this machine has them.

use controlplane::pki::{Certificate, fingerprint};
use serde::{Deserialize, Serialize};

use crate::clock::date;
use crate::store::Resource;

/// An authority, named as in the machine config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    pub phase: Phase,
    /// Common name of the one that issues.
    pub subject: String,
    /// When that one ends. RFC 3339, UTC.
    pub not_after: String,
    /// Common names of all whose certificates are accepted, in the config's order.
    pub accepts: Vec<String>,
    /// SHA-256 of their certificates, in the same order: the first one issues.
    pub fingerprints: Vec<String>,
    /// Whether the key of the one that issues is on this machine.
    pub key: bool,
    /// What of this machine does not follow the config yet; empty once all does.
    pub waits_for: Vec<String>,
    /// What of the cluster does not; only control planes see it.
    pub cluster_waits_for: Vec<String>,
}

/// How far one authority has taken another's place, as the config has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// There is one.
    Settled,
    /// A newer one is accepted, and the older issues.
    Accepting,
    /// The newer one issues, and an older is still accepted.
    Issuing,
}

impl Resource for AuthorityStatus {
    const KIND: &'static str = "authorities";
}

/// An authority whose key this control plane got from another one, named as in the machine config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldKey {
    pub subject: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
}

impl Resource for HeldKey {
    const KIND: &'static str = "authoritykeys";
}

impl HeldKey {
    pub fn of(certificate: &Certificate, pem: &str) -> HeldKey {
        HeldKey {
            subject: certificate.common_name.clone(),
            not_after: date(certificate.not_after),
            fingerprint: fingerprint(pem).unwrap_or_default(),
        }
    }
}
