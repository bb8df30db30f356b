//! Writes an update file.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::{collections::HashSet, thread};

use machine::verity::{SUPERBLOCK_BYTES, Superblock};
use semver::Version;

use crate::chunk::{self, Chunk};
use crate::digest::{Digest, Sha256};
use crate::envelope::SignedManifest;
use crate::file::{MAGIC, VERSION};
use crate::hash_tree::HashTree;
use crate::key::SigningKey;
use crate::manifest::{BadManifest, FORMAT_VERSION, Manifest, Part, PartName};

/// Chunks that are compressed at a time: 16 MiB at most.
const BATCH: usize = 64;

/// What a manifest says that is not seen from the parts; the fields are those of [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub version: Version,
    pub profile: String,
    pub architecture: String,
    pub minimum_version: Version,
    pub kubernetes: Option<Version>,
    pub config_versions: Vec<String>,
    pub kernel_release: String,
    /// Seconds since 1970.
    pub built_at: u64,
    /// Seconds since 1970.
    pub expires_at: Option<u64>,
    pub release_notes: String,
    pub root_hash: Digest,
    pub slot_bytes: u64,
}

/// How far [`write()`] has come, in bytes before compression; a chunk that stands twice counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the part {part} is missing: an update has root, verity and uki, each once")]
    Parts { part: PartName },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("compressing a chunk")]
    Compress(#[source] io::Error),
    #[error("writing the update file")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Manifest(#[from] BadManifest),
}

/// A part that was read once: what the manifest says of it, and where the chunks lie.
struct Source<'a> {
    path: &'a Path,
    file: File,
    part: Part,
}

/// Writes the update file of these parts, signed by all `keys`, and returns its head. The same parts, header and keys give the same bytes.
///
/// The parts are read twice and the root a third time, so that memory stays at some tens of MiB: the manifest with its digests comes first in
/// the file, and says whether the part `verity` follows from the root. `level` is
/// zstd's (1 to 22). The caller makes the file durable.
pub fn write(
    mut out: impl Write,
    header: Header,
    parts: &[(PartName, &Path)],
    keys: &[SigningKey],
    level: i32,
    mut progress: impl FnMut(Progress),
) -> Result<SignedManifest, WriteError> {
    let sources = sources(parts)?;
    let parts = sources.iter().map(|source| source.part.clone()).collect();
    let manifest = manifest(header, hash_tree(&sources)?, parts);
    let signed = SignedManifest::sign(&manifest, keys)?;
    head(&mut out, &signed).map_err(WriteError::Write)?;

    let mut seen = HashSet::new();
    let places: Vec<(&Source<'_>, u64, Chunk)> = sources
        .iter()
        .flat_map(|source| source.part.placed_chunks().map(move |(offset, chunk)| (source, offset, *chunk)))
        .filter(|(_, _, chunk)| seen.insert(chunk.sha256))
        .collect();
    let total_bytes = places.iter().map(|(_, _, chunk)| u64::from(chunk.size)).sum();
    let mut done_bytes = 0;
    for batch in places.chunks(BATCH) {
        let pieces = batch.iter().map(|(source, offset, chunk)| source.read(*offset, chunk)).collect::<Result<Vec<_>, _>>()?;
        let compressed = compress_all(&pieces, level).map_err(WriteError::Compress)?;
        for ((_, _, chunk), data) in batch.iter().zip(compressed) {
            record(&mut out, chunk, &data).map_err(WriteError::Write)?;
            done_bytes += u64::from(chunk.size);
        }
        progress(Progress { done_bytes, total_bytes });
    }
    out.flush().map_err(WriteError::Write)?;
    Ok(signed)
}

/// Everything before the first record.
pub(crate) fn head(out: &mut impl Write, signed: &SignedManifest) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    // An envelope is at most 3 MiB.
    out.write_all(&(signed.bytes().len() as u32).to_le_bytes())?;
    out.write_all(signed.bytes())
}

pub(crate) fn record(out: &mut impl Write, chunk: &Chunk, data: &[u8]) -> io::Result<()> {
    out.write_all(&chunk.sha256.0)?;
    // zstd makes at most 1/256 more of at most 256 KiB.
    out.write_all(&(data.len() as u32).to_le_bytes())?;
    out.write_all(data)
}

/// The parts in the manifest's order, each read through.
fn sources<'a>(parts: &[(PartName, &'a Path)]) -> Result<Vec<Source<'a>>, WriteError> {
    let find = |name: PartName| {
        let mut named = parts.iter().filter(|(part, _)| *part == name).map(|(_, path)| *path);
        match (named.next(), named.next()) {
            (Some(path), None) => Source::open(name, path),
            _ => Err(WriteError::Parts { part: name }),
        }
    };
    PartName::ALL.into_iter().map(find).collect()
}

/// What makes the part `verity` of the root, if that gives each byte of it.
fn hash_tree(sources: &[Source<'_>]) -> Result<Option<HashTree>, WriteError> {
    let [root, verity, _] = sources else { return Ok(None) };
    if HashTree::size_bytes(root.part.size_bytes).ok() != Some(verity.part.size_bytes) {
        return Ok(None);
    }
    let mut head = [0; SUPERBLOCK_BYTES];
    verity.read_at(&mut head, 0)?;
    let Ok(superblock) = Superblock::parse(&head) else { return Ok(None) };
    let tree = HashTree::of(superblock);
    (&root.file).rewind().map_err(|source| root.unreadable(source))?;
    let Ok(blocks) = tree.blocks(&root.file, root.part.size_bytes) else { return Ok(None) };
    let mut found = Vec::new();
    for block in blocks {
        let (offset, block) = block.map_err(|source| root.unreadable(source))?;
        found.resize(block.len(), 0);
        verity.read_at(&mut found, offset)?;
        if found != block {
            return Ok(None);
        }
    }
    Ok(Some(tree))
}

fn manifest(header: Header, hash_tree: Option<HashTree>, parts: Vec<Part>) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        version: header.version,
        profile: header.profile,
        architecture: header.architecture,
        minimum_version: header.minimum_version,
        kubernetes: header.kubernetes,
        config_versions: header.config_versions,
        kernel_release: header.kernel_release,
        built_at: header.built_at,
        expires_at: header.expires_at,
        release_notes: header.release_notes,
        root_hash: header.root_hash,
        hash_tree,
        slot_bytes: header.slot_bytes,
        parts,
    }
}

impl<'a> Source<'a> {
    fn open(name: PartName, path: &'a Path) -> Result<Source<'a>, WriteError> {
        let reading = |source| WriteError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(reading)?;
        let mut part = Part { name, size_bytes: 0, sha256: Digest([0; 32]), chunks: Vec::new() };
        let mut hash = Sha256::default();
        for piece in chunk::split(&file) {
            let (chunk, bytes) = piece.map_err(reading)?;
            hash.update(&bytes);
            part.size_bytes += u64::from(chunk.size);
            part.chunks.push(chunk);
        }
        part.sha256 = hash.finish();
        Ok(Source { path, file, part })
    }

    fn read(&self, offset: u64, chunk: &Chunk) -> Result<Vec<u8>, WriteError> {
        let mut bytes = vec![0; chunk.size as usize];
        self.read_at(&mut bytes, offset)?;
        if Digest::of(&bytes) == chunk.sha256 { Ok(bytes) } else { Err(WriteError::Changed { path: self.path.to_owned() }) }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), WriteError> {
        self.file.read_exact_at(bytes, offset).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> WriteError {
        WriteError::Read { path: self.path.to_owned(), source }
    }
}

/// In order, on all processors: a high level takes minutes for an image.
fn compress_all(pieces: &[Vec<u8>], level: i32) -> io::Result<Vec<Vec<u8>>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = pieces.len().div_ceil(threads).max(1);
    let compress = |pieces: &[Vec<u8>]| -> io::Result<Vec<Vec<u8>>> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        pieces.iter().map(|bytes| compressor.compress(bytes)).collect()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = pieces.chunks(share).map(|pieces| scope.spawn(move || compress(pieces))).collect();
        let mut compressed = Vec::with_capacity(pieces.len());
        for worker in workers {
            compressed.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(compressed)
    })
}
