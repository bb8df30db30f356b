//! The keys and certificates that a control plane's files are made of.

use std::collections::BTreeMap;

use machine::config::{Config, Secret};

use crate::pki::{AuthorityId, CertificateId, Issued};
use crate::render::RenderError;

/// What the machine holds of them now. A render step that misses one says which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub issued: BTreeMap<CertificateId, Issued>,
    /// PEM. None on a further control plane until it has received them.
    pub authority_keys: BTreeMap<AuthorityId, Secret>,
    /// PEM.
    pub service_account_key: Option<Secret>,
    /// 32 bytes in base64.
    pub encryption_key: Option<Secret>,
}

impl Credentials {
    /// The keys that the machine config brings; certificates are still to be issued.
    pub fn from_config(config: &Config) -> Credentials {
        let cluster = &config.cluster;
        let key = |id: AuthorityId| Some((id, id.of(&cluster.certificate_authorities).key.clone()?));
        Credentials {
            issued: BTreeMap::new(),
            authority_keys: AuthorityId::ALL.into_iter().filter_map(key).collect(),
            service_account_key: cluster.service_account_key.clone(),
            encryption_key: cluster.encryption_key.clone(),
        }
    }

    pub fn certificate(&self, id: CertificateId) -> Result<&Issued, RenderError> {
        self.issued.get(&id).ok_or(RenderError::MissingCertificate(id))
    }

    pub(crate) fn service_account_key(&self) -> Result<&Secret, RenderError> {
        self.service_account_key.as_ref().ok_or(RenderError::MissingKey("cluster.serviceAccountKey"))
    }

    pub(crate) fn encryption_key(&self) -> Result<&Secret, RenderError> {
        self.encryption_key.as_ref().ok_or(RenderError::MissingKey("cluster.encryptionKey"))
    }
}
