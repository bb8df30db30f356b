//! Where the audit log goes.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// One sink of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditSinkStatus {
    pub url: String,
    /// Number of the last record that it took in this boot.
    pub delivered: u64,
    /// Why it takes none now; empty while all is well.
    pub error: String,
}

impl Resource for AuditSinkStatus {
    const KIND: &'static str = "auditsinks";
}
