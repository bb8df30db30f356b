//! A record for tests.

use machine::disk::Slot;

use super::phase::Phase;
use super::records::{Kind, Record};

pub fn record(number: u64) -> Record {
    Record {
        version: 1,
        number,
        kind: Kind::Upgrade,
        from_version: "0.1.0".to_owned(),
        to_version: "0.2.0".to_owned(),
        from_slot: Slot::A,
        to_slot: Slot::B,
        to_root_hash: "ab".repeat(32),
        update: "cd".repeat(32),
        generation: 3,
        restore: 0,
        started_at: 1_800_000_000,
        started_by: "os:admin/alice from 192.0.2.1:1".to_owned(),
        phase: Phase::Writing,
        boots: 0,
        boot_id: "boot".to_owned(),
        cluster_reachable_before: true,
        reason: None,
        ended_at: 0,
    }
}
