//! Requests of kubelets for certificates, which this control plane may have to grant.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A CertificateSigningRequest that nobody decided yet, named by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRequest {
    pub signer: String,
    /// The user who filed it.
    pub user: String,
    pub groups: Vec<String>,
    pub usages: Vec<String>,
    /// PKCS#10, PEM.
    pub request: String,
}

impl Resource for PendingRequest {
    const KIND: &'static str = "signingrequests";
}
