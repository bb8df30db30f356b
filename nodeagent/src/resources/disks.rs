//! The machine's disks: what one may install to.

use machine::config::DiskType;
use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A whole disk, named as the kernel does: `vda`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Device node.
    pub path: String,
    /// As the disk reports it; empty where it does not.
    pub serial: String,
    /// World wide name; empty where it has none.
    pub wwn: String,
    pub model: String,
    pub size_bytes: u64,
    /// Bytes of a logical sector.
    pub sector_bytes: u64,
    #[serde(rename = "type")]
    pub kind: DiskType,
    pub read_only: bool,
    pub removable: bool,
    /// What is on it, in words; empty where nothing is known of.
    pub holds: String,
    /// Whether all that is on it are partitions with the names of Corten's.
    pub corten: bool,
    /// What the machine uses it for right now; empty where it does not.
    pub used_as: String,
}

impl Resource for Disk {
    const KIND: &'static str = "disks";
}
