//! What an update says about itself.

mod check;

use std::collections::HashSet;
use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::digest::Digest;
use crate::hash_tree::HashTree;
use crate::printable;

pub use check::{BadManifest, MAX_CHUNKS, MAX_PART_BYTES};

/// Of the manifest. It grows when a reader that ignores an unknown field would do something wrong; fields that may be ignored are added
/// without.
pub const FORMAT_VERSION: u32 = 1;

/// What an update holds and which machines it is for. Every value that is read has passed [`Manifest::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format_version: u32,
    /// Of the image.
    pub version: Version,
    /// Profile of the image: only machines of the same one take it.
    pub profile: String,
    /// As `uname -m` says it: `x86_64`.
    pub architecture: String,
    /// Lowest version that a machine may come from.
    pub minimum_version: Version,
    /// Version of the Kubernetes parts, without a leading `v`; absent in an image without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Version>,
    /// Schema versions of the machine config that the image reads, such as `corten.dev/v1`; empty where the file does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_versions: Vec<String>,
    /// As `uname -r` says it.
    pub kernel_release: String,
    /// Seconds since 1970.
    pub built_at: u64,
    /// Seconds since 1970; from then on no machine takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// For people: plain text, at most 64 KiB.
    #[serde(default)]
    pub release_notes: String,
    /// dm-verity root hash of the root, as the UKI's command line has it.
    pub root_hash: Digest,
    /// What the part `verity` is made of, beside the root; absent where it does not follow from the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_tree: Option<HashTree>,
    /// Size of the partition that the root needs.
    pub slot_bytes: u64,
    /// Each [`PartName`] once.
    pub parts: Vec<Part>,
}

/// What goes into one partition, or into one file of the ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub name: PartName,
    pub size_bytes: u64,
    /// Of the whole part.
    pub sha256: Digest,
    /// In the order in which they make up the part.
    pub chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum PartName {
    /// The erofs image of the root.
    Root,
    /// Its dm-verity hash tree.
    Verity,
    /// Kernel, initramfs and command line.
    Uki,
}

impl Manifest {
    /// Reads and checks the text.
    pub fn parse(text: &str) -> Result<Manifest, BadManifest> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: u32,
        }
        // First alone: the rest of another version may look different.
        let Version { format_version } = serde_json::from_str(text).map_err(BadManifest::Manifest)?;
        if format_version != FORMAT_VERSION {
            return Err(BadManifest::FormatVersion { found: format_version });
        }
        let manifest: Manifest = serde_json::from_str(text).map_err(BadManifest::Manifest)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Sizes within their limits, chunks that sum up, text that can be shown.
    pub fn check(&self) -> Result<(), BadManifest> {
        check::check(self)
    }

    /// The part of that name; every manifest that passed its check has it.
    pub fn part(&self, name: PartName) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Each chunk once, in the order in which the parts need them: the order of the records in the file.
    pub fn distinct_chunks(&self) -> Vec<Chunk> {
        distinct(self.parts.iter())
    }

    /// The parts that a machine has to get from somewhere: all but a hash tree that it makes of the root.
    pub fn needed_parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.name != PartName::Verity || self.hash_tree.is_none())
    }

    /// Each chunk of those parts once, in the order in which they need them.
    pub fn needed_chunks(&self) -> Vec<Chunk> {
        distinct(self.needed_parts())
    }

    /// Bytes of all parts.
    pub fn total_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }
}

fn distinct<'a>(parts: impl Iterator<Item = &'a Part>) -> Vec<Chunk> {
    let mut seen = HashSet::new();
    parts.flat_map(|part| &part.chunks).filter(|chunk| seen.insert(chunk.sha256)).copied().collect()
}

impl Part {
    /// The chunks with their offsets in the part, in bytes.
    pub fn placed_chunks(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.chunks.iter().scan(0, |next, chunk| {
            let offset = *next;
            *next += u64::from(chunk.size);
            Some((offset, chunk))
        })
    }
}

impl PartName {
    pub const ALL: [PartName; 3] = [PartName::Root, PartName::Verity, PartName::Uki];

    pub fn name(self) -> &'static str {
        match self {
            PartName::Root => "root",
            PartName::Verity => "verity",
            PartName::Uki => "uki",
        }
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<PartName> for &'static str {
    fn from(name: PartName) -> &'static str {
        name.name()
    }
}

impl TryFrom<String> for PartName {
    type Error = String;

    fn try_from(text: String) -> Result<PartName, String> {
        let found = PartName::ALL.into_iter().find(|name| name.name() == text);
        found.ok_or_else(|| format!("part {:?}; expected root, verity or uki", printable::shorten(&text)))
    }
}

#[cfg(test)]
mod tests;
