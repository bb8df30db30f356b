//! What vouches for the software that runs: firmware, kernel, TPM.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// How this boot was checked and measured; one object, `boot`. None of it changes while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    pub secure_boot: SecureBoot,
    /// What the kernel keeps even root from: `none`, `integrity` or `confidentiality`; empty where it does not say.
    pub lockdown: String,
    /// Whether there is a TPM 2.0 whose registers the kernel can read.
    pub tpm: bool,
    /// Register 11 of the bank SHA-256, lower-case hexadecimal digits: the sections of the UKI, as its stub measured them. Empty without a TPM.
    pub pcr11: String,
}

/// Whether the firmware checked what it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecureBoot {
    On,
    /// Off, or firmware that has none.
    Off,
    /// There is UEFI, but its variables cannot be read.
    Unknown,
}

impl Security {
    pub const NAME: &'static str = "boot";
}

impl Resource for Security {
    const KIND: &'static str = "security";
}
