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
        from_kubernetes: "v1.37.1".to_owned(),
        from_etcd: "v3.7.3".to_owned(),
        to_etcd: String::new(),
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
        written_bytes: 8192,
        without_snapshot: false,
        pods_failed_before: false,
        overlay_peers_before: Vec::new(),
        reason: None,
        ended_at: 0,
    }
}

/// A PE32+ file with the sections that a UKI has.
pub fn uki(command_line: &str, kernel: &[u8]) -> Vec<u8> {
    const OPTIONAL_HEADER_BYTES: usize = 240;
    const ALIGNMENT: usize = 512;
    let sections: [(&str, &[u8]); 3] = [(".cmdline", command_line.as_bytes()), (".initrd", b"initramfs"), (".linux", kernel)];
    let table = 64 + 24 + OPTIONAL_HEADER_BYTES;
    let mut bytes = vec![0; (table + sections.len() * 40).next_multiple_of(ALIGNMENT)];
    let headers = bytes.len() as u32;
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 64;
    bytes[64..68].copy_from_slice(b"PE\0\0");
    bytes[68..70].copy_from_slice(&0x8664_u16.to_le_bytes());
    bytes[70] = sections.len() as u8;
    bytes[84] = OPTIONAL_HEADER_BYTES as u8;
    bytes[88..90].copy_from_slice(&0x20b_u16.to_le_bytes());
    bytes[88 + 60..88 + 64].copy_from_slice(&headers.to_le_bytes());
    bytes[88 + 108] = 16;
    for (number, (name, content)) in sections.into_iter().enumerate() {
        let (at, start) = (table + number * 40, bytes.len());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let raw = (bytes.len() - start) as u32;
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        for (field, value) in [content.len() as u32, 0x1000 * (number as u32 + 1), raw, start as u32].into_iter().enumerate() {
            bytes[at + 8 + field * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}
