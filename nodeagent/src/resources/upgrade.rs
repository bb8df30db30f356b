//! The two slots and what came of each upgrade.

use machine::disk::Slot;
use serde::{Deserialize, Serialize};

use crate::store::Resource;
use crate::upgrade::records::Record;

/// One record an upgrade or rollback, named by its number.
impl Resource for Record {
    const KIND: &'static str = "upgrades";
}

/// What one of the two places for a root holds, named `a` or `b`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    pub slot: Slot,
    /// Whether the machine runs from it.
    pub running: bool,
    /// Empty where it holds no image that is known.
    pub version: String,
    pub profile: String,
    /// Of its Kubernetes, such as `v1.37.1`; empty where it has none or nobody said.
    pub kubernetes: String,
    /// dm-verity root hash, hex.
    pub root_hash: String,
    /// File name of the boot loader's entry; empty without one.
    pub entry: String,
    /// Of two entries the boot loader takes the higher one; 0 without one.
    pub sequence: u64,
    /// Whether the image is known to be good.
    pub blessed: bool,
    /// How often the boot loader still tries it; none where it does not count.
    pub tries_left: Option<u32>,
    /// The config generation that the image ran with last while it was known to be good; 0 for none.
    pub generation: u64,
}

impl Resource for SlotStatus {
    const KIND: &'static str = "slots";
}
