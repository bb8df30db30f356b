//! The machine's stage in life: one word that the API, the permission table and the console share.

use serde::{Deserialize, Serialize};

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// No config yet: the API has a self-signed certificate and answers few calls.
    Maintenance,
    Installing,
    /// A config is there; its services are being brought up.
    Booting,
    Running,
    /// Configured, but cannot go on; the calls of maintenance, over mTLS.
    Recovery,
    Upgrading,
    Resetting,
    Rebooting,
    ShuttingDown,
}

impl Stage {
    pub const ALL: [Stage; 9] = [
        Stage::Maintenance,
        Stage::Installing,
        Stage::Booting,
        Stage::Running,
        Stage::Recovery,
        Stage::Upgrading,
        Stage::Resetting,
        Stage::Rebooting,
        Stage::ShuttingDown,
    ];

    /// The word that users see.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Maintenance => "maintenance",
            Stage::Installing => "installing",
            Stage::Booting => "booting",
            Stage::Running => "running",
            Stage::Recovery => "recovery",
            Stage::Upgrading => "upgrading",
            Stage::Resetting => "resetting",
            Stage::Rebooting => "rebooting",
            Stage::ShuttingDown => "shuttingDown",
        }
    }
}
