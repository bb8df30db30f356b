//! The rules that a manifest keeps, whoever wrote it.

use std::collections::HashMap;

use super::{FORMAT_VERSION, Manifest, Part, PartName};
use crate::chunk::MAX_CHUNK_BYTES;
use crate::envelope::{MAX_ENVELOPE_BYTES, MAX_SIGNATURES};
use crate::hash_tree::HashTree;
use crate::printable;

/// Largest part: the partitions of a slot are no larger.
pub const MAX_PART_BYTES: u64 = 1024 * 1024 * 1024;
/// Most chunks of all parts together: twice what 1 GiB gives on average.
pub const MAX_CHUNKS: usize = 32 * 1024;
/// Largest text for people.
const MAX_RELEASE_NOTES_BYTES: usize = 64 * 1024;
/// Most schema versions of the machine config: an image reads its own and those before it.
const MAX_CONFIG_VERSIONS: usize = 16;
/// Longest name or version.
const MAX_NAME_BYTES: usize = 128;
/// The end of the year 9999: later times cannot be written as a date.
const MAX_SECONDS: u64 = 253_402_300_799;

#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("signed manifest of {found} bytes; expected at most {MAX_ENVELOPE_BYTES}")]
    TooLong { found: usize },
    #[error("reading the signed manifest")]
    Envelope(#[source] serde_json::Error),
    #[error("signed manifest with {found} signatures; expected at most {MAX_SIGNATURES}")]
    TooManySignatures { found: usize },
    #[error("reading the manifest")]
    Manifest(#[source] serde_json::Error),
    #[error("manifest of format version {found}; this release reads {FORMAT_VERSION}: take a release in between first")]
    FormatVersion { found: u32 },
    #[error("manifest: {field}: {found}; expected {expected}")]
    Field { field: String, found: String, expected: String },
}

fn bad(field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> BadManifest {
    BadManifest::Field { field: field.into(), found: found.to_string(), expected: expected.into() }
}

pub fn check(manifest: &Manifest) -> Result<(), BadManifest> {
    name("profile", &manifest.profile)?;
    name("architecture", &manifest.architecture)?;
    name("kernelRelease", &manifest.kernel_release)?;
    let versions = [("version", Some(&manifest.version)), ("minimumVersion", Some(&manifest.minimum_version))];
    for (field, version) in versions.into_iter().chain([("kubernetes", manifest.kubernetes.as_ref())]) {
        if let Some(version) = version.filter(|version| version.to_string().len() > MAX_NAME_BYTES) {
            let expected = format!("at most {MAX_NAME_BYTES} characters");
            return Err(bad(field, format!("{:?}", printable::shorten(&version.to_string())), expected));
        }
    }
    if manifest.config_versions.len() > MAX_CONFIG_VERSIONS {
        let found = format!("{} versions", manifest.config_versions.len());
        return Err(bad("configVersions", found, format!("at most {MAX_CONFIG_VERSIONS}")));
    }
    for version in &manifest.config_versions {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        name("configVersions", group).and(name("configVersions", version))?;
    }
    let times = [("builtAt", Some(manifest.built_at)), ("expiresAt", manifest.expires_at)];
    for (field, seconds) in times {
        if let Some(seconds) = seconds.filter(|seconds| *seconds > MAX_SECONDS) {
            return Err(bad(field, seconds, "seconds since 1970, before the year 10000"));
        }
    }
    if manifest.release_notes.len() > MAX_RELEASE_NOTES_BYTES {
        let found = format!("{} bytes", manifest.release_notes.len());
        return Err(bad("releaseNotes", found, format!("at most {MAX_RELEASE_NOTES_BYTES}")));
    }
    if !printable::harmless(&manifest.release_notes, true) {
        return Err(bad("releaseNotes", "control characters", "plain text with line breaks and tabs"));
    }
    if !(1..=MAX_PART_BYTES).contains(&manifest.slot_bytes) {
        return Err(bad("slotBytes", manifest.slot_bytes, format!("1 to {MAX_PART_BYTES}")));
    }
    parts(manifest)?;
    hash_tree(manifest)
}

/// Names are compared and shown, and become parts of file names.
fn name(field: &str, text: &str) -> Result<(), BadManifest> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.+~".contains(c);
    if !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(known) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_NAME_BYTES} letters, digits or any of -_.+~");
    Err(bad(field, format!("{:?}", printable::shorten(text)), expected))
}

fn parts(manifest: &Manifest) -> Result<(), BadManifest> {
    let names: Vec<PartName> = manifest.parts.iter().map(|part| part.name).collect();
    if names != PartName::ALL {
        let found = names.iter().map(|name| name.name()).collect::<Vec<_>>().join(", ");
        return Err(bad("parts", if found.is_empty() { "none" } else { &found }, "root, verity, uki, in this order"));
    }
    let count: usize = manifest.parts.iter().map(|part| part.chunks.len()).sum();
    if count > MAX_CHUNKS {
        return Err(bad("parts", format!("{count} chunks"), format!("at most {MAX_CHUNKS}")));
    }
    let mut sizes = HashMap::new();
    for (index, part) in manifest.parts.iter().enumerate() {
        let field = format!("parts[{index}]");
        part_sizes(&field, part, manifest.slot_bytes)?;
        for (number, chunk) in part.chunks.iter().enumerate() {
            let known = *sizes.entry(chunk.sha256).or_insert(chunk.size);
            if known != chunk.size {
                let expected = format!("{known}, as the same chunk has it before");
                return Err(bad(format!("{field}.chunks[{number}].size"), chunk.size, expected));
            }
        }
    }
    Ok(())
}

/// A tree that the root has must be the one that the part can hold.
fn hash_tree(manifest: &Manifest) -> Result<(), BadManifest> {
    let (Some(_), [root, verity, _]) = (&manifest.hash_tree, manifest.parts.as_slice()) else { return Ok(()) };
    let size = HashTree::size_bytes(root.size_bytes).map_err(|_| {
        bad("parts[0].sizeBytes", root.size_bytes, "at least two whole blocks of 4096 bytes, since hashTree makes a tree of them")
    })?;
    if verity.size_bytes != size {
        return Err(bad("parts[1].sizeBytes", verity.size_bytes, format!("{size}, the size of the tree that hashTree makes of the root")));
    }
    Ok(())
}

fn part_sizes(field: &str, part: &Part, slot_bytes: u64) -> Result<(), BadManifest> {
    let limit = match part.name {
        PartName::Root | PartName::Verity => slot_bytes,
        PartName::Uki => MAX_PART_BYTES,
    };
    if !(1..=limit).contains(&part.size_bytes) {
        return Err(bad(format!("{field}.sizeBytes"), part.size_bytes, format!("1 to {limit}")));
    }
    let mut sum = 0;
    for (number, chunk) in part.chunks.iter().enumerate() {
        if !(1..=MAX_CHUNK_BYTES).contains(&chunk.size) {
            return Err(bad(format!("{field}.chunks[{number}].size"), chunk.size, format!("1 to {MAX_CHUNK_BYTES}")));
        }
        sum += u64::from(chunk.size);
    }
    if sum != part.size_bytes {
        return Err(bad(format!("{field}.chunks"), format!("{sum} bytes in all"), format!("{}, the part's size", part.size_bytes)));
    }
    Ok(())
}
