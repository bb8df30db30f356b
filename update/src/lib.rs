//! The update file: one signed file that holds an image in chunks, so that a machine is sent only what it lacks. docs/update-file.md has the
//! format byte by byte.
//!
//! image-build writes one ([`write()`]), machinectl reads it ([`UpdateFile`]) and sends the [`SignedManifest`] and the chunks that are asked
//! for, nodeagent checks both ([`SignedManifest::verify`], [`admissible`], [`decompress`]). Everything that is read here may come from a
//! stranger: sizes are bounded before anything is allocated, and nothing panics. No async, and nothing is written but what [`write()`] is given.

mod admission;
mod chunk;
mod digest;
mod envelope;
mod file;
mod hash_tree;
mod key;
mod manifest;
mod patch;
mod printable;
mod trust;
mod write;

#[cfg(test)]
mod sample;

pub use admission::{Policy, Refused, Running, admissible};
pub use chunk::{
    AVERAGE_CHUNK_BYTES, BadChunk, Chunk, MAX_CHUNK_BYTES, MAX_COMPRESSED_BYTES, MIN_CHUNK_BYTES, compress, decompress, split,
};
pub use digest::{BadDigest, Digest};
pub use envelope::{MAX_ENVELOPE_BYTES, MAX_SIGNATURES, SignedManifest};
pub use file::{BadFile, UpdateFile};
pub use hash_tree::{BadHashTree, HashTree, Salt, TreeBlocks, Uuid};
pub use key::{BadKey, KeyId, PublicKey, Signature, SigningKey};
pub use manifest::{BadManifest, FORMAT_VERSION, MAX_CHUNKS, MAX_PART_BYTES, Manifest, Part, PartName};
pub use patch::{BadDifference, Base, MAX_BASE_BYTES, bases, compress_from, decompress_from};
pub use semver::Version;
pub use trust::{BadTrustedKeys, SignatureVerdict, TrustedKeys, Untrusted};
pub use write::{Header, Progress, WriteError, write};
