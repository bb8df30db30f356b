//! Small update files that anybody can make again.

use std::io::Write;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};
use update::{Digest, HashTree, Header, Manifest, PartName, SignedManifest, SigningKey, TrustedKeys, UpdateFile, WriteError};

pub const BUILT_AT: u64 = 1_790_000_000;
/// 90 days later.
pub const EXPIRES_AT: u64 = BUILT_AT + 90 * 24 * 60 * 60;

/// The key whose secret is 32 times this byte.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub fn trusted() -> TrustedKeys {
    TrustedKeys { threshold: 1, keys: vec![key(1).public()] }
}

pub fn header() -> Header {
    Header {
        version: "1.4.0".parse().unwrap(),
        profile: "worker".into(),
        architecture: "x86_64".into(),
        minimum_version: "1.2.0".parse().unwrap(),
        kubernetes: Some("1.37.0".parse().unwrap()),
        kernel_release: "6.12.117+deb13-cloud-amd64".into(),
        built_at: BUILT_AT,
        config_versions: Vec::new(),
        expires_at: Some(EXPIRES_AT),
        release_notes: "What is new:\n- nothing, this is a test\n".into(),
        root_hash: Digest::of(b"root hash"),
        slot_bytes: 1024 * 1024 * 1024,
    }
}

/// Letters a to p in an order that looks random: a linear congruential generator modulo 2^64 (Knuth's MMIX), its upper bits.
pub fn letters(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + (state >> 60) as u8
    };
    (0..count).map(next).collect()
}

/// Root, verity and UKI.
pub type Parts = [Vec<u8>; 3];

/// The root begins with two equal chunks of zeros.
pub fn parts() -> Parts {
    [[vec![0; 512 * 1024], letters(1, 5000)].concat(), letters(2, 2000), letters(3, 3000)]
}

/// Of [`tree_parts`].
pub fn hash_tree() -> HashTree {
    HashTree { uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f".parse().unwrap(), salt: "c0ffee".parse().unwrap() }
}

/// A root of 130 blocks, so that its hash tree has two levels, and that tree.
pub fn tree_parts() -> Parts {
    let root = [vec![0; 512 * 1024], letters(1, 8192)].concat();
    let mut verity = vec![0; HashTree::size_bytes(root.len() as u64).unwrap() as usize];
    for block in hash_tree().blocks(root.as_slice(), root.len() as u64).unwrap() {
        let (offset, block) = block.unwrap();
        verity[offset as usize..][..block.len()].copy_from_slice(&block);
    }
    [root, verity, letters(3, 3000)]
}

/// The file with another manifest, well signed by key 1.
pub fn with_manifest(bytes: &[u8], change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let records = 16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut manifest = SignedManifest::parse(&bytes[16..records]).unwrap().peek().clone();
    change(&mut manifest);
    let signed = SignedManifest::sign(&manifest, &[key(1)]).unwrap();
    [&bytes[..12], &(signed.bytes().len() as u32).to_le_bytes(), signed.bytes(), &bytes[records..]].concat()
}

/// The bytes of an update file, and its head.
pub fn write(header: Header, parts: &Parts, keys: &[SigningKey]) -> Result<(Vec<u8>, SignedManifest), WriteError> {
    let directory = TempDir::new().unwrap();
    let paths = PartName::ALL.map(|name| directory.path().join(name.name()));
    paths.iter().zip(parts).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let named: Vec<(PartName, &Path)> = PartName::ALL.into_iter().zip(paths.iter().map(|path| path.as_path())).collect();
    let mut bytes = Vec::new();
    let signed = update::write(&mut bytes, header, &named, keys, 3, |_| {})?;
    Ok((bytes, signed))
}

/// A file on a disk that holds these bytes.
pub fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Everything that a client and a machine check, and then the parts.
pub fn take(bytes: &[u8], keys: &TrustedKeys, now: u64) -> Result<Parts, String> {
    let update = UpdateFile::open(file(bytes).path()).map_err(|error| in_full(&error))?;
    update.manifest().verify(keys, now).map_err(|error| in_full(&error))?;
    update.verify_all().map_err(|error| in_full(&error))?;
    let part = |name| {
        let mut bytes = Vec::new();
        update.copy_part(name, &mut bytes).unwrap();
        bytes
    };
    Ok(PartName::ALL.map(part))
}

/// An error with its causes.
pub fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", in_full(source)),
        None => error.to_string(),
    }
}
