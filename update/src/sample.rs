//! What the unit tests work on.

use crate::chunk::Chunk;
use crate::digest::Digest;
use crate::key::SigningKey;
use crate::manifest::{FORMAT_VERSION, Manifest, Part, PartName};

pub const BUILT_AT: u64 = 1_790_000_000;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub fn part(name: PartName, sizes: &[u32]) -> Part {
    let chunk = |(index, size): (usize, &u32)| Chunk { sha256: Digest::of(format!("{name} {index}").as_bytes()), size: *size };
    Part {
        name,
        size_bytes: sizes.iter().map(|size| u64::from(*size)).sum(),
        sha256: Digest::of(name.name().as_bytes()),
        chunks: sizes.iter().enumerate().map(chunk).collect(),
    }
}

pub fn manifest() -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        version: "1.4.0".parse().unwrap(),
        profile: "worker".into(),
        architecture: "x86_64".into(),
        minimum_version: "1.2.0".parse().unwrap(),
        kubernetes: Some("1.37.0".parse().unwrap()),
        kernel_release: "6.12.117+deb13-cloud-amd64".into(),
        built_at: BUILT_AT,
        config_versions: Vec::new(),
        expires_at: None,
        release_notes: "Fixes.\n\t- one\n".into(),
        root_hash: Digest::of(b"root hash"),
        hash_tree: None,
        slot_bytes: 1024 * 1024,
        parts: vec![part(PartName::Root, &[70_000, 80_000]), part(PartName::Verity, &[4096]), part(PartName::Uki, &[30_000])],
    }
}
