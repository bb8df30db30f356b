//! Which chunks the running image consists of: what needs not be sent again. The list is noted when an image is written; that of a disk's
//! first image is found by cutting it into chunks once.

use std::collections::HashMap;
use std::io::Read;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use update::{Chunk, Digest, Manifest, PartName, split};

use super::disk::size_of;
use super::parts::Parts;
use super::progress::Reporter;
use super::swap::Swap;

/// One part's chunks in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChunks {
    pub name: PartName,
    pub chunks: Vec<Chunk>,
}

/// Where a chunk lies in the running image.
pub type Index = HashMap<Digest, (PartName, u64)>;

/// What is noted of an image that was written by this manifest.
pub fn of_manifest(manifest: &Manifest) -> Vec<PartChunks> {
    manifest.parts.iter().map(|part| PartChunks { name: part.name, chunks: part.chunks.clone() }).collect()
}

/// The running image's chunks; slow where they were never noted.
pub fn of_running(swap: &Swap, reporter: &Reporter) -> anyhow::Result<Index> {
    let noted = swap.slots.chunks(swap.running, &swap.root_hash);
    let parts = match noted {
        Some(parts) => parts,
        None => {
            let parts = cut(swap, reporter)?;
            swap.slots.put_chunks(swap.running, &swap.root_hash, &parts)?;
            parts
        }
    };
    Ok(places(&parts))
}

/// Bytes of each part of the running image; none where its chunks were never noted.
pub fn sizes_of_running(swap: &Swap) -> Option<HashMap<PartName, u64>> {
    let parts: Vec<PartChunks> = swap.slots.chunks(swap.running, &swap.root_hash)?;
    let size = |part: PartChunks| (part.name, part.chunks.iter().map(|chunk| u64::from(chunk.size)).sum());
    Some(parts.into_iter().map(size).collect())
}

fn places(parts: &[PartChunks]) -> Index {
    let mut index = Index::new();
    for part in parts {
        let mut offset = 0;
        for chunk in &part.chunks {
            index.entry(chunk.sha256).or_insert((part.name, offset));
            offset += u64::from(chunk.size);
        }
    }
    index
}

fn cut(swap: &Swap, reporter: &Reporter) -> anyhow::Result<Vec<PartChunks>> {
    let image = Parts::of(swap, swap.running)?;
    let mut sizes = Vec::new();
    for name in PartName::ALL {
        let path = image.path(name);
        let whole = size_of(path).with_context(|| format!("reading {}", path.display()))?;
        let used = if name == PartName::Root { erofs_bytes(&image.read(name, 0, EROFS_HEAD)?) } else { None };
        sizes.push((name, used.unwrap_or(whole).min(whole)));
    }
    let mut step = reporter.step("looking at what the running image has", sizes.iter().map(|(_, size)| size).sum());
    let mut parts = Vec::new();
    for (name, size) in sizes {
        let mut chunks = Vec::new();
        for piece in split(image.reader(name)?.take(size)) {
            let (chunk, _) = piece.with_context(|| format!("reading {}", image.path(name).display()))?;
            step.advance(u64::from(chunk.size));
            chunks.push(chunk);
        }
        parts.push(PartChunks { name, chunks });
    }
    Ok(parts)
}

/// Bytes from the start of an erofs that tell its size.
const EROFS_HEAD: u32 = 1024 + 128;

/// Size of an erofs by its superblock (struct erofs_super_block in the kernel's fs/erofs/erofs_fs.h); the partition is larger.
fn erofs_bytes(head: &[u8]) -> Option<u64> {
    let superblock = head.get(1024..)?;
    let word = |at: usize| Some(u32::from_le_bytes(superblock.get(at..at + 4)?.try_into().ok()?));
    let block_bits = *superblock.get(12)?;
    let blocks = u64::from(word(36)?);
    (word(0)? == 0xe0f5_e1e2 && (9..=16).contains(&block_bits)).then(|| blocks << block_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_an_erofs() {
        let mut head = vec![0; EROFS_HEAD as usize];
        assert_eq!(erofs_bytes(&head), None);
        head[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        head[1036] = 12;
        head[1060..1064].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(erofs_bytes(&head), Some(4_096_000));
        assert_eq!(erofs_bytes(&head[..1030]), None);
    }

    #[test]
    fn the_first_place_of_a_chunk_counts() {
        let chunk = |bytes: &[u8]| Chunk { sha256: Digest::of(bytes), size: bytes.len() as u32 };
        let (one, two) = (chunk(b"one"), chunk(b"second"));
        let parts =
            [PartChunks { name: PartName::Root, chunks: vec![one, two, one] }, PartChunks { name: PartName::Uki, chunks: vec![two] }];
        let index = places(&parts);
        assert_eq!((index[&one.sha256], index[&two.sha256]), ((PartName::Root, 0), (PartName::Root, 3)));
    }
}
