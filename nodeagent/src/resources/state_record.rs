//! Records on STATE that this image does not read.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A record that a newer release wrote, named by its file on STATE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadRecord {
    /// What it tells, in words.
    pub what: String,
    pub version: u32,
    /// The newest version that this image reads.
    pub reads: u32,
    /// What follows from it.
    pub effect: String,
}

impl Resource for UnreadRecord {
    const KIND: &'static str = "staterecords";
}
