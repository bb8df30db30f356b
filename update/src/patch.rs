//! Patches: a chunk that a machine lacks, made of what the machine has in its place. After a change that touches every file a little, such
//! as another kernel, few chunks are equal and nearly all are alike. There are two forms: a zstd frame with the base as its prefix, and
//! [`difference`].
//!
//! A patch needs no signature: whatever it is made from, the chunk that comes out has the digest that the manifest wants, or is refused.

use std::collections::{HashMap, HashSet};
use std::io;

use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

use crate::chunk::{BadChunk, Chunk, MAX_CHUNK_BYTES, MAX_COMPRESSED_BYTES, checked};
use crate::digest::Digest;
use crate::manifest::{Manifest, Part, PartName};

mod difference;
mod likeness;

pub use difference::BadDifference;
pub(crate) use likeness::Landmarks;

/// How far a base reaches beyond where the chunk is expected, on either side: erofs lays a file on whole blocks, so that each that grew or
/// shrank moves all that follow. docs/update-file.md has the figures behind it.
const MARGIN_BYTES: u64 = 128 * 1024;
/// No base is longer.
pub const MAX_BASE_BYTES: u32 = MAX_CHUNK_BYTES + 2 * MARGIN_BYTES as u32;

/// A stretch of the image that a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    pub part: PartName,
    /// From the beginning of the part, in bytes.
    pub offset: u64,
    /// At most [`MAX_BASE_BYTES`].
    pub length: u32,
}

/// For each chunk that `new` has and `old` has not, the stretch of `old` that is most likely alike as far as manifests tell: in the same part,
/// and as far from the equal chunks around it. [`UpdateFile::bases`](crate::UpdateFile::bases) looks at the bytes as well.
pub fn bases(old: &Manifest, new: &Manifest) -> HashMap<Digest, Base> {
    let known: HashSet<Digest> = old.parts.iter().flat_map(|part| &part.chunks).map(|chunk| chunk.sha256).collect();
    let mut bases = HashMap::new();
    for part in &new.parts {
        let Some(old_part) = old.part(part.name) else { continue };
        let anchors = anchors(old_part, part);
        for (offset, chunk) in part.placed_chunks().filter(|(_, chunk)| !known.contains(&chunk.sha256)) {
            let expected = expected(&anchors, offset);
            let from = expected.saturating_sub(MARGIN_BYTES).min(old_part.size_bytes);
            let to = expected.saturating_add(u64::from(chunk.size) + MARGIN_BYTES).min(old_part.size_bytes);
            if from < to {
                // A chunk and two margins.
                let length = (to - from).min(u64::from(MAX_BASE_BYTES)) as u32;
                bases.entry(chunk.sha256).or_insert(Base { part: part.name, offset: from, length });
            }
        }
    }
    bases
}

/// The same place in both images, in bytes from the beginning of the part.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    new: u64,
    old: u64,
}

/// Beginnings and ends of the chunks that each image has once, in order, and the beginnings and ends of the parts.
fn anchors(old: &Part, new: &Part) -> Vec<Anchor> {
    let old_places = places(old);
    let new_places = places(new);
    let mut anchors = vec![Anchor { new: 0, old: 0 }];
    for chunk in &new.chunks {
        let (Some(Some(old)), Some(Some(new))) = (old_places.get(&chunk.sha256), new_places.get(&chunk.sha256)) else { continue };
        // What was moved towards the front in between would turn the order around.
        if anchors.last().is_some_and(|last| last.old <= *old) {
            let size = u64::from(chunk.size);
            anchors.extend([Anchor { new: *new, old: *old }, Anchor { new: new + size, old: old + size }]);
        }
    }
    anchors.push(Anchor { new: new.size_bytes, old: old.size_bytes.max(anchors.last().map_or(0, |last| last.old)) });
    anchors
}

/// Where each chunk stands; none for one that stands in several places.
fn places(part: &Part) -> HashMap<Digest, Option<u64>> {
    let mut places = HashMap::new();
    for (offset, chunk) in part.placed_chunks() {
        places.entry(chunk.sha256).and_modify(|place| *place = None).or_insert(Some(offset));
    }
    places
}

/// Where in the old part to look for what stands at `offset` of the new one: between the anchors around it, in proportion.
fn expected(anchors: &[Anchor], offset: u64) -> u64 {
    let next = anchors.partition_point(|anchor| anchor.new <= offset);
    match (next.checked_sub(1).and_then(|last| anchors.get(last)), anchors.get(next)) {
        // Parts are at most 1 GiB, so that the product fits.
        (Some(from), Some(to)) => from.old + (to.old - from.old) * (offset - from.new) / (to.new - from.new),
        (Some(from), None) => from.old,
        (None, _) => offset,
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

/// A chunk against its base, in the form that takes less. `level` is zstd's, 1 to 22.
pub fn compress_from(base: &[u8], bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let prefixed = prefixed(base, bytes, level)?;
    let difference = difference::make(base, bytes, level)?;
    Ok(difference.filter(|difference| difference.len() < prefixed.len()).unwrap_or(prefixed))
}

fn prefixed(base: &[u8], bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context.set_parameter(CParameter::CompressionLevel(level)).map_err(zstd_error)?;
    context.ref_prefix(base).map_err(zstd_error)?;
    let mut data = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut data, bytes).map_err(zstd_error)?;
    Ok(data)
}

/// The chunk that a patch makes of its base, bounded and checked as [`decompress`](crate::decompress) does it. The caller reads the base
/// only if its length is within [`MAX_BASE_BYTES`] and the part ends beyond it.
pub fn decompress_from(base: &[u8], data: &[u8], expected: &Chunk) -> Result<Vec<u8>, BadChunk> {
    if data.len() > MAX_COMPRESSED_BYTES as usize {
        return Err(BadChunk::TooLong { found: data.len() });
    }
    let capacity = expected.size.min(MAX_CHUNK_BYTES) as usize;
    if data.first() == Some(&difference::FORM) {
        return checked(difference::apply(base, data, capacity)?, expected);
    }
    let failed = |source| BadChunk::Zstd { expected: expected.size, source };
    let mut context = DCtx::try_create().ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
    context.ref_prefix(base).map_err(|code| failed(zstd_error(code)))?;
    let mut bytes = Vec::with_capacity(capacity);
    context.decompress(&mut bytes, data).map_err(|code| failed(zstd_error(code)))?;
    checked(bytes, expected)
}

#[cfg(test)]
mod tests;
