//! Chunks as patches against the image that a machine runs. That takes its update file: one that the user names, or one that lies beside the
//! new one under its usual name. Without it, chunks are sent whole.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use api::v1::{ImagePart, PatchBase, UploadRequest};
use update::{BadFile, Base, Chunk, Digest, PartName, UpdateFile, Version};

use super::change::Update;
use crate::failure::{Failure, chain};

/// Of zstd. Patches are made while somebody waits; docs/update-file.md has what higher levels would win.
const LEVEL: i32 = 9;

/// Where update files of images that run may be.
#[derive(Debug)]
pub struct Olds {
    /// Those that the user names.
    pub named: Vec<Arc<UpdateFile>>,
    /// The folder of the new one.
    pub folder: PathBuf,
}

/// A chunk, and the stretch of the running image that it is made of.
#[derive(Debug)]
pub struct Patch {
    pub base: Base,
    pub data: Vec<u8>,
}

/// One update for machines that run a certain other image.
#[derive(Debug)]
pub struct Patches {
    /// Of that image.
    pub version: String,
    root_hash: String,
    /// Where it is smaller than the chunk by itself.
    patches: HashMap<Digest, Patch>,
}

/// What was found, by the root hash of the image that runs: several machines may run the same. Why there is nothing is told to the user.
#[derive(Debug, Default)]
pub struct Made(Mutex<HashMap<String, Found>>);

type Found = Result<Option<Arc<Patches>>, String>;

impl Made {
    /// Takes seconds where they are not made yet.
    pub fn of(&self, update: &UpdateFile, olds: &Olds, root_hash: &str, version: &str) -> Found {
        // Held meanwhile: whoever asks for the same waits for it.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(root_hash) {
            return found.clone();
        }
        let found = find(update, olds, root_hash, version);
        made.insert(root_hash.to_owned(), found.clone());
        found
    }
}

/// An image is known by its root hash, whatever its file is called.
fn find(update: &UpdateFile, olds: &Olds, root_hash: &str, version: &str) -> Found {
    let is_running = |old: &UpdateFile| old.manifest().peek().root_hash.to_string() == root_hash;
    let make = |old: &UpdateFile| Patches::make(update, old).map(|patches| Some(Arc::new(patches))).map_err(|error| chain(&error));
    if let Some(old) = olds.named.iter().find(|old| is_running(old)) {
        return make(old).map_err(|error| format!("--from: {error}"));
    }
    // What a machine calls its version makes the name of a file here.
    if let Ok(version) = version.parse::<Version>() {
        let name = format!("corten-{version}-{}.update", update.manifest().peek().profile);
        let path = olds.folder.join(&name);
        if path.exists() {
            let old = UpdateFile::open(&path).map_err(|error| format!("{}: {}", path.display(), chain(&error)))?;
            if is_running(&old) {
                return make(&old).map_err(|error| format!("{}: {error}", path.display()));
            }
            return Err(format!("{} is not the image that it runs, but one of the same version", path.display()));
        }
    }
    match olds.named.is_empty() {
        true => Ok(None),
        false => Err(format!("--from names no file of the image that it runs: {version} with root hash {root_hash}")),
    }
}

impl Patches {
    /// On all processors.
    fn make(update: &UpdateFile, old: &UpdateFile) -> Result<Patches, BadFile> {
        let (from, to) = (old.manifest().peek(), update.manifest().peek());
        let places = update.bases(old)?;
        let chunks = to.distinct_chunks().into_iter().filter_map(|chunk| Some((chunk, *places.get(&chunk.sha256)?)));
        let wanted: Vec<(Chunk, Base)> = chunks.collect();
        let share = wanted.len().div_ceil(thread::available_parallelism().map_or(1, usize::from)).max(1);
        let patch = |(chunk, base): &(Chunk, Base)| -> Result<_, BadFile> {
            let data = update.patch(chunk, old, base, LEVEL)?;
            let smaller = update.compressed_bytes(&chunk.sha256).is_some_and(|whole| data.len() < whole as usize);
            Ok(smaller.then_some((chunk.sha256, Patch { base: *base, data })))
        };
        let patches = thread::scope(|scope| -> Result<_, BadFile> {
            let workers: Vec<_> = wanted
                .chunks(share)
                .map(|wanted| {
                    scope.spawn(move || wanted.iter().filter_map(|wanted| patch(wanted).transpose()).collect::<Result<Vec<_>, _>>())
                })
                .collect();
            let mut patches = HashMap::with_capacity(wanted.len());
            for worker in workers {
                patches.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(patches)
        })?;
        Ok(Patches { version: from.version.to_string(), root_hash: from.root_hash.to_string(), patches })
    }
}

/// In which form chunks go to one machine.
#[derive(Debug, Clone)]
pub struct Forms {
    update: Arc<Update>,
    patches: Option<Arc<Patches>>,
    /// Parts that the machine holds otherwise than the update file of its image says, such as a UKI that was signed anew.
    given_up: Vec<PartName>,
}

/// Bytes on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    pub patches: u64,
    pub whole: u64,
}

impl Forms {
    pub fn new(update: Arc<Update>, patches: Option<Arc<Patches>>) -> Forms {
        Forms { update, patches, given_up: Vec::new() }
    }

    /// The version that patches are made against.
    pub fn against(&self) -> Option<&str> {
        self.patches.as_ref().map(|patches| patches.version.as_str())
    }

    /// The machine said what it runs now.
    pub fn running(&mut self, root_hash: &str) {
        self.patches.take_if(|patches| patches.root_hash != root_hash);
    }

    fn patch(&self, chunk: &Digest) -> Option<&Patch> {
        let patch = self.patches.as_ref()?.patches.get(chunk)?;
        (!self.given_up.contains(&patch.base.part)).then_some(patch)
    }

    /// No more patches like the one of this chunk; `false` if it was none.
    pub fn give_up(&mut self, chunk: &Digest) -> bool {
        let part = self.patch(chunk).map(|patch| patch.base.part);
        self.given_up.extend(part);
        part.is_some()
    }

    pub fn weight(&self, chunks: &[Digest]) -> Weight {
        let mut weight = Weight::default();
        for chunk in chunks {
            match self.patch(chunk) {
                Some(patch) => weight.patches += patch.data.len() as u64,
                None => weight.whole += self.update.file.compressed_bytes(chunk).map_or(0, u64::from),
            }
        }
        weight
    }

    pub fn message(&self, chunk: &Digest) -> Result<UploadRequest, Failure> {
        let digest = chunk.0.to_vec();
        if let Some(Patch { base, data }) = self.patch(chunk) {
            let base = PatchBase { part: part(base.part).into(), offset_bytes: base.offset, length_bytes: base.length.into() };
            return Ok(UploadRequest { digest, data: data.clone(), base: Some(base), ..Default::default() });
        }
        let data = self.update.file.compressed(chunk).map_err(|error| Failure::of("reading the update file", &error))?;
        let data = data.ok_or_else(|| Failure::new("update file", format!("the machine asks for a chunk that is not in it: {chunk}")))?;
        Ok(UploadRequest { digest, data, ..Default::default() })
    }
}

impl Weight {
    pub fn sum(self) -> u64 {
        self.patches + self.whole
    }
}

fn part(name: PartName) -> ImagePart {
    match name {
        PartName::Root => ImagePart::Root,
        PartName::Verity => ImagePart::Verity,
        PartName::Uki => ImagePart::Uki,
    }
}
