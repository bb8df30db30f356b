//! The machine as a whole: its stage and its health.

use machine::stage::Stage;
use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// This machine; one object, `machine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    pub stage: Stage,
    /// Config generation in force; 0 without a config.
    pub generation: u64,
    /// What keeps the machine from running.
    pub waits_for: Vec<String>,
}

/// A check of the machine's health, named by what is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub passed: bool,
    /// What is missing; empty where it passes.
    pub message: String,
}

impl Resource for MachineStatus {
    const KIND: &'static str = "machines";
}
impl Resource for Check {
    const KIND: &'static str = "health";
}

impl MachineStatus {
    pub const NAME: &'static str = "machine";
}
