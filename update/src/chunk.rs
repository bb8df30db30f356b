//! The pieces that parts are cut into: content decides where, so equal stretches of two images give equal chunks.

use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::patch::BadDifference;

/// No chunk is smaller, but for the last of a part.
pub const MIN_CHUNK_BYTES: u32 = 16 * 1024;
/// What the chunker aims at. docs/update-file.md has the figures behind it.
pub const AVERAGE_CHUNK_BYTES: u32 = 64 * 1024;
/// No chunk is larger.
pub const MAX_CHUNK_BYTES: u32 = 256 * 1024;
/// No compressed chunk is larger: above what zstd makes of bytes that cannot be compressed (ZSTD_COMPRESSBOUND: 1/256 more).
pub const MAX_COMPRESSED_BYTES: u32 = MAX_CHUNK_BYTES + MAX_CHUNK_BYTES / 128;

/// A piece of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chunk {
    /// Of the bytes before compression.
    pub sha256: Digest,
    /// Bytes before compression.
    pub size: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum BadChunk {
    #[error("compressed chunk of {found} bytes; expected at most {MAX_COMPRESSED_BYTES}")]
    TooLong { found: usize },
    #[error("decompressing {expected} bytes with zstd")]
    Zstd {
        expected: u32,
        #[source]
        source: io::Error,
    },
    #[error("patch that makes no chunk")]
    Difference(#[from] BadDifference),
    #[error("chunk of {found} bytes; expected {expected}")]
    Size { found: usize, expected: u32 },
    #[error("chunk with digest {found}; expected {expected}: it was damaged or changed on its way")]
    Digest { found: Digest, expected: Digest },
}

/// Cuts what `from` yields. The same bytes give the same chunks wherever and whenever they are cut; memory stays at a few chunks.
pub fn split(from: impl Read) -> impl Iterator<Item = io::Result<(Chunk, Vec<u8>)>> {
    StreamCDC::new(from, MIN_CHUNK_BYTES as usize, AVERAGE_CHUNK_BYTES as usize, MAX_CHUNK_BYTES as usize).map(|piece| {
        let bytes = piece?.data;
        // The chunker yields at most MAX_CHUNK_BYTES.
        let chunk = Chunk { sha256: Digest::of(&bytes), size: bytes.len() as u32 };
        Ok((chunk, bytes))
    })
}

/// A chunk as the update file has it. `level` is zstd's, 1 to 22; readers do not care.
pub fn compress(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, level)
}

/// The bytes of a chunk that somebody sent. Never more memory than the chunk's size as the manifest has it, whatever `data` claims.
pub fn decompress(data: &[u8], expected: &Chunk) -> Result<Vec<u8>, BadChunk> {
    if data.len() > MAX_COMPRESSED_BYTES as usize {
        return Err(BadChunk::TooLong { found: data.len() });
    }
    let capacity = expected.size.min(MAX_CHUNK_BYTES) as usize;
    let bytes = zstd::bulk::decompress(data, capacity).map_err(|source| BadChunk::Zstd { expected: expected.size, source })?;
    checked(bytes, expected)
}

/// The bytes, if they are the chunk.
pub(crate) fn checked(bytes: Vec<u8>, expected: &Chunk) -> Result<Vec<u8>, BadChunk> {
    if bytes.len() != expected.size as usize {
        return Err(BadChunk::Size { found: bytes.len(), expected: expected.size });
    }
    match Digest::of(&bytes) {
        found if found == expected.sha256 => Ok(bytes),
        found => Err(BadChunk::Digest { found, expected: expected.sha256 }),
    }
}

#[cfg(test)]
mod tests;
