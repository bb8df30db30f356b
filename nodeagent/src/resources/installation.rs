//! The installation of the machine on a disk, for whoever waits for it.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// No disk has this name.
pub const REFUSED: &str = "refused";

/// An installation of this boot, named by its disk: `vda`. The last config that was refused is [`REFUSED`], until one is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallationStatus {
    /// Of the image that is installed.
    pub version: String,
    pub phase: Phase,
    /// What is being done, or went wrong.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Nothing was begun, and no disk written to.
    Refused,
    /// The disk cannot be booted from yet.
    Writing,
    /// The disk can be booted from; the machine reboots.
    Installed,
    Failed,
}

impl Resource for InstallationStatus {
    const KIND: &'static str = "installations";
}
