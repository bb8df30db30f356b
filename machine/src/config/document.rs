//! A machine config file as a value, before and after it is checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::Report;
use super::source::Source;
use super::{Cluster, Machine};

pub const API_VERSION: &str = "corten.dev/v1";
pub const KIND: &str = "MachineConfig";

/// What a machine config file says, with defaults filled in but nothing checked beyond each field's own form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Always `corten.dev/v1`.
    pub api_version: String,
    /// Always `MachineConfig`.
    pub kind: String,
    /// What all machines of the cluster share.
    pub cluster: Cluster,
    /// What is this machine's own.
    pub machine: Machine,
}

/// A machine config that passed every check. Only `Config::check` makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub cluster: Cluster,
    pub machine: Machine,
}

impl Document {
    /// Reads a document; `source_name` is what messages call it. [`super::load`] checks it in full as well.
    pub fn parse(text: impl AsRef<[u8]>, source_name: &str) -> Result<Document, Report> {
        Source::read(text, source_name)?.document()
    }
}
