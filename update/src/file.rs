//! An update file on a disk.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::slice;

use crate::chunk::{BadChunk, Chunk, MAX_COMPRESSED_BYTES, decompress};
use crate::digest::{Digest, Sha256};
use crate::envelope::{MAX_ENVELOPE_BYTES, SignedManifest};
use crate::hash_tree::Uuid;
use crate::key::{PublicKey, Signature, SigningKey};
use crate::manifest::{BadManifest, Manifest, PartName};
use crate::patch::{Base, Landmarks, MAX_BASE_BYTES, bases, compress_from};
use crate::write::{head, record};

/// The first bytes of every update file.
pub(crate) const MAGIC: &[u8; 8] = b"CORTENUP";
/// Of the file around the manifest.
pub(crate) const VERSION: u32 = 1;

/// An update file whose head has been read and whose records are where the manifest wants them. Who wrote it is not known before
/// [`SignedManifest::verify`], and whether the chunks are whole not before they are decompressed.
#[derive(Debug)]
pub struct UpdateFile {
    file: File,
    signed: SignedManifest,
    records: HashMap<Digest, Record>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    /// Of the compressed bytes in the file.
    offset: u64,
    length: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    #[error("opening {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading the update file")]
    Read(#[source] io::Error),
    #[error("no update file of Corten: it does not begin with CORTENUP")]
    Magic,
    #[error("update file of version {found}; this release reads {VERSION}: use the machinectl of a newer release")]
    Version { found: u32 },
    #[error("signed manifest of {found} bytes; expected at most {MAX_ENVELOPE_BYTES}")]
    EnvelopeLength { found: u32 },
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    #[error("the update file is cut short in its {what}: fetch it again")]
    CutShort { what: String },
    #[error("record {number} of {count} holds chunk {found}; expected {expected}: the records are out of order or damaged")]
    Order { number: usize, count: usize, found: Digest, expected: Digest },
    #[error("record {number} of {count} has {found} bytes; expected 1 to {MAX_COMPRESSED_BYTES}")]
    RecordLength { number: usize, count: usize, found: u32 },
    #[error("{bytes} bytes follow the last record")]
    Trailing { bytes: u64 },
    #[error("chunk {chunk} of the part {part}")]
    Chunk {
        part: PartName,
        chunk: Digest,
        #[source]
        source: BadChunk,
    },
    #[error("part {part} with digest {found}; expected {expected}")]
    Part { part: PartName, found: Digest, expected: Digest },
    #[error(
        "the hashTree {uuid} makes another tree of the part root than the part verity is, from byte {offset} on: build the update file again"
    )]
    HashTree { uuid: Uuid, offset: u64 },
    #[error("compressing a chunk")]
    Compress(#[source] io::Error),
    #[error("writing the update file")]
    Write(#[source] io::Error),
}

impl UpdateFile {
    /// Reads the head, and of the records only where they are.
    pub fn open(path: impl AsRef<Path>) -> Result<UpdateFile, BadFile> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| BadFile::Open { path: path.to_owned(), source })?;
        UpdateFile::read(file)
    }

    /// The same of a file that is open.
    pub fn read(file: File) -> Result<UpdateFile, BadFile> {
        let length = (&file).seek(SeekFrom::End(0)).map_err(BadFile::Read)?;
        (&file).rewind().map_err(BadFile::Read)?;
        let mut reader = BufReader::new(&file);
        let signed = read_head(&mut reader)?;
        let chunks = signed.peek().distinct_chunks();
        let mut records = HashMap::with_capacity(chunks.len());
        let mut offset = HEAD_BYTES + signed.bytes().len() as u64;
        for (index, chunk) in chunks.iter().enumerate() {
            let (number, count) = (index + 1, chunks.len());
            let cut = || format!("record {number} of {count}");
            let found = Digest(take(&mut reader, cut)?);
            if found != chunk.sha256 {
                return Err(BadFile::Order { number, count, found, expected: chunk.sha256 });
            }
            let size = u32::from_le_bytes(take(&mut reader, cut)?);
            if !(1..=MAX_COMPRESSED_BYTES).contains(&size) {
                return Err(BadFile::RecordLength { number, count, found: size });
            }
            offset += RECORD_HEAD_BYTES;
            records.insert(found, Record { offset, length: size });
            offset += u64::from(size);
            if offset > length {
                return Err(BadFile::CutShort { what: cut() });
            }
            reader.seek_relative(i64::from(size)).map_err(BadFile::Read)?;
        }
        if offset != length {
            return Err(BadFile::Trailing { bytes: length - offset });
        }
        drop(reader);
        Ok(UpdateFile { file, signed, records })
    }

    /// What a machine is offered.
    pub fn manifest(&self) -> &SignedManifest {
        &self.signed
    }

    /// A chunk's compressed bytes, at most [`MAX_COMPRESSED_BYTES`]; none where the update has no such chunk.
    pub fn compressed(&self, chunk: &Digest) -> io::Result<Option<Vec<u8>>> {
        let Some(record) = self.records.get(chunk) else { return Ok(None) };
        let mut data = vec![0; record.length as usize];
        self.file.read_exact_at(&mut data, record.offset)?;
        Ok(Some(data))
    }

    /// Compressed bytes of a chunk, without reading it.
    pub fn compressed_bytes(&self, chunk: &Digest) -> Option<u32> {
        self.records.get(chunk).map(|record| record.length)
    }

    /// Decompresses everything and compares every digest, and the hash tree with the one that the root makes.
    pub fn verify_all(&self) -> Result<(), BadFile> {
        for name in PartName::ALL {
            self.copy_part(name, &mut io::sink())?;
        }
        self.verify_hash_tree()
    }

    fn verify_hash_tree(&self) -> Result<(), BadFile> {
        let manifest: &Manifest = self.signed.peek();
        let (Some(tree), Some(root)) = (&manifest.hash_tree, manifest.part(PartName::Root)) else { return Ok(()) };
        // Of the size that the root's tree has, which is 1/128 of the largest root: the manifest's rule.
        let mut verity = Vec::new();
        self.copy_part(PartName::Verity, &mut verity)?;
        let reader = PartReader { file: self, chunks: root.chunks.iter(), bytes: Cursor::default() };
        let differs = |offset| BadFile::HashTree { uuid: tree.uuid, offset };
        for block in tree.blocks(reader, root.size_bytes).map_err(|_| differs(0))? {
            let (offset, block) = block.map_err(BadFile::Read)?;
            if verity.iter().skip(offset as usize).take(block.len()).ne(&block) {
                return Err(differs(offset));
            }
        }
        Ok(())
    }

    /// Writes a part out, each chunk of it checked before it is written. The digest of the whole is checked at the end: until that is
    /// answered, what was written is not to be used.
    pub fn copy_part(&self, name: PartName, out: &mut impl Write) -> Result<(), BadFile> {
        let manifest: &Manifest = self.signed.peek();
        let Some(part) = manifest.part(name) else { return Ok(()) };
        let mut hash = Sha256::default();
        for chunk in &part.chunks {
            let bytes = self.chunk(name, chunk)?;
            hash.update(&bytes);
            out.write_all(&bytes).map_err(BadFile::Write)?;
        }
        match hash.finish() {
            found if found == part.sha256 => Ok(()),
            found => Err(BadFile::Part { part: name, found, expected: part.sha256 }),
        }
    }

    /// For each chunk of this update that `old` lacks, the stretch of `old` that is most alike. Reads all chunks that only one of them has.
    pub fn bases(&self, old: &UpdateFile) -> Result<HashMap<Digest, Base>, BadFile> {
        let (from, to): (&Manifest, &Manifest) = (old.signed.peek(), self.signed.peek());
        let kept: HashSet<Digest> = to.distinct_chunks().into_iter().map(|chunk| chunk.sha256).collect();
        let mut places = bases(from, to);
        for part in &from.parts {
            let Some(new_part) = to.part(part.name) else { continue };
            let mut landmarks = Landmarks::default();
            let mut seen = HashSet::new();
            for (offset, chunk) in part.placed_chunks().filter(|(_, chunk)| !kept.contains(&chunk.sha256)) {
                if seen.insert(chunk.sha256) {
                    landmarks.add(offset, &old.chunk(part.name, chunk)?);
                }
            }
            for chunk in &new_part.chunks {
                // What stands in two parts is expected in the first of them.
                if let Some(place) = places.get_mut(&chunk.sha256).filter(|place| place.part == part.name)
                    && let Some(base) = landmarks.base(part.name, part.size_bytes, &self.chunk(part.name, chunk)?)
                {
                    *place = base;
                }
            }
        }
        Ok(places)
    }

    /// A chunk of this update as a patch for machines that run `old`, if they have something in its place ([`bases`](UpdateFile::bases)):
    /// compressed bytes for [`decompress_from`](crate::decompress_from).
    pub fn patch(&self, chunk: &Chunk, old: &UpdateFile, base: &Base, level: i32) -> Result<Vec<u8>, BadFile> {
        let bytes = self.chunk(base.part, chunk)?;
        compress_from(&old.stretch(base)?, &bytes, level).map_err(BadFile::Compress)
    }

    /// A stretch of a part, as a machine that runs this image reads it from its slot; shorter where the part ends before it.
    pub fn stretch(&self, base: &Base) -> Result<Vec<u8>, BadFile> {
        let manifest: &Manifest = self.signed.peek();
        let mut bytes = Vec::new();
        let Some(part) = manifest.part(base.part) else { return Ok(bytes) };
        let length = base.length.min(MAX_BASE_BYTES) as usize;
        for (offset, chunk) in part.placed_chunks() {
            if bytes.len() < length && offset + u64::from(chunk.size) > base.offset {
                let content = self.chunk(base.part, chunk)?;
                // Within the first chunk that is reached the stretch begins somewhere, with the others at their beginning.
                let skip = base.offset.saturating_sub(offset) as usize;
                bytes.extend(content.iter().skip(skip).take(length - bytes.len()));
            }
        }
        Ok(bytes)
    }

    fn chunk(&self, part: PartName, chunk: &Chunk) -> Result<Vec<u8>, BadFile> {
        let data = self.compressed(&chunk.sha256).map_err(BadFile::Read)?.unwrap_or_default();
        decompress(&data, chunk).map_err(|source| BadFile::Chunk { part, chunk: chunk.sha256, source })
    }

    /// Writes the same update with further signatures: of keys that are at hand, and of some that are not.
    pub fn copy_signed(
        &self,
        out: &mut impl Write,
        keys: &[SigningKey],
        elsewhere: impl IntoIterator<Item = (PublicKey, Signature)>,
    ) -> Result<SignedManifest, BadFile> {
        let signed = self.signed.with_signatures_of(keys)?.with_signatures(elsewhere)?;
        head(out, &signed).map_err(BadFile::Write)?;
        for chunk in self.signed.peek().distinct_chunks() {
            let data = self.compressed(&chunk.sha256).map_err(BadFile::Read)?.unwrap_or_default();
            record(out, &chunk, &data).map_err(BadFile::Write)?;
        }
        out.flush().map_err(BadFile::Write)?;
        Ok(signed)
    }
}

/// The bytes of the root, chunk by chunk.
struct PartReader<'a> {
    file: &'a UpdateFile,
    chunks: slice::Iter<'a, Chunk>,
    bytes: Cursor<Vec<u8>>,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.bytes.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            self.bytes = Cursor::new(self.file.chunk(PartName::Root, chunk).map_err(io::Error::other)?);
        }
    }
}

/// Magic, version, length of the envelope.
const HEAD_BYTES: u64 = 8 + 4 + 4;
/// Digest and length.
const RECORD_HEAD_BYTES: u64 = 32 + 4;

fn read_head(reader: &mut impl Read) -> Result<SignedManifest, BadFile> {
    let cut = || "head".to_owned();
    // A file that is shorter than the magic is no update file either.
    let magic: [u8; 8] =
        take(reader, cut).map_err(|error| if matches!(error, BadFile::CutShort { .. }) { BadFile::Magic } else { error })?;
    if magic != *MAGIC {
        return Err(BadFile::Magic);
    }
    let version = u32::from_le_bytes(take(reader, cut)?);
    if version != VERSION {
        return Err(BadFile::Version { found: version });
    }
    let length = u32::from_le_bytes(take(reader, cut)?);
    if length as usize > MAX_ENVELOPE_BYTES {
        return Err(BadFile::EnvelopeLength { found: length });
    }
    let mut envelope = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut envelope).map_err(BadFile::Read)?;
    if envelope.len() != length as usize {
        return Err(BadFile::CutShort { what: "signed manifest".into() });
    }
    Ok(SignedManifest::parse(&envelope)?)
}

fn take<const N: usize>(reader: &mut impl Read, what: impl Fn() -> String) -> Result<[u8; N], BadFile> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(BadFile::CutShort { what: what() }),
        Err(error) => Err(BadFile::Read(error)),
    }
}
