//! A machine config file as a value, before and after it is checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    pub cluster: Cluster,
    pub machine: Machine,
}

/// A machine config that passed every check. Only `Config::check` makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub cluster: Cluster,
    pub machine: Machine,
}
