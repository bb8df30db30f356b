//! What is sent to a machine that runs one image and gets another: chunks that it lacks, the same as patches, and what other tools make of the
//! pair. All of them have the machine's image at hand, and so has `machinectl upgrade --from`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ::tests::program;
use anyhow::{Context, ensure};
use serde_json::json;
use update::{Chunk, PartName, UpdateFile, bases};

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;

/// What machinectl takes.
const LEVEL: i32 = 9;
/// Digest and length before each chunk, in the file and much the same on the wire.
const RECORD_HEAD_BYTES: u64 = 36;

/// Two update files.
#[derive(Debug, clap::Args)]
pub struct Pair {
    /// Of delta: update file of the image that runs
    #[arg(long, value_name = "FILE", requires = "new")]
    old: Option<PathBuf>,
    /// Of delta: update file of the one that comes
    #[arg(long, value_name = "FILE", requires = "old")]
    new: Option<PathBuf>,
}

impl Pair {
    pub fn is_named(&self) -> bool {
        self.old.is_some()
    }
}

pub fn measure(pair: &Pair) -> anyhow::Result<Outcome> {
    let (Some(old), Some(new)) = (&pair.old, &pair.new) else { anyhow::bail!("name two update files with --old and --new") };
    let directory = tempfile::tempdir()?;
    let images = [("old", old), ("new", new)].map(|(name, path)| Image::open(path, &directory.path().join(name)));
    let [old, new] = images.map(|image| image.with_context(|| "reading an update file"));
    let (old, new) = (old?, new?);
    let whole = new.file_bytes;
    let envelope = new.file.manifest().bytes().len() as u64;
    let known: HashSet<Chunk> = old.file.manifest().peek().distinct_chunks().into_iter().collect();
    let missing: Vec<Chunk> = new.file.manifest().peek().distinct_chunks().into_iter().filter(|chunk| !known.contains(chunk)).collect();
    ensure!(!missing.is_empty(), "the old image has every chunk of the new one: there is nothing to measure");
    let chunks = envelope + missing.iter().map(|chunk| RECORD_HEAD_BYTES + new.whole(chunk)).sum::<u64>();
    let began = Instant::now();
    let patches = envelope + sent_as_patches(&old, &new, &missing, LEVEL)?;
    let seconds = began.elapsed().as_secs_f64();
    let best = envelope + sent_as_patches(&old, &new, &missing, 19)?;

    let mut figures = vec![Figure::alone("update, whole file", Unit::Megabytes, megabytes(whole), Goal::None)];
    let mut notes = Vec::new();
    let mut details = json!({ "whole": whole, "chunks": chunks, "patches": patches, "patchesAt19": best, "patchSeconds": seconds });
    let peers: [(&str, &str, u64, Tool); 3] =
        [("chunks that are missing", "casync", chunks, casync), ("patches", "zstd", patches, zstd), ("patches", "bsdiff", patches, bsdiff)];
    for (name, tool, ours, measure) in peers {
        if Command::new(tool).arg("--help").output().is_err() {
            notes.push(format!("{tool} is not installed: left out"));
            figures.push(Figure::alone(format!("update, {name}"), Unit::Megabytes, megabytes(ours), Goal::None));
            continue;
        }
        let theirs = measure(&old, &new, directory.path()).with_context(|| tool.to_owned())?;
        details[tool] = theirs.into();
        let name = format!("update, {name} (peer: {tool})");
        figures.push(Figure::beside(name, Unit::Megabytes, megabytes(ours), megabytes(theirs), Goal::None));
    }
    let percent = |bytes: u64| format!("{:.1} %", bytes as f64 * 100.0 / whole as f64);
    let of = |name: &str| details[name].as_u64().map(|bytes| format!(", {name} {}", percent(bytes))).unwrap_or_default();
    notes.push(format!(
        "of the whole file: chunks {}, patches {}, at level 19 {}{}{}{}",
        percent(chunks),
        percent(patches),
        percent(best),
        of("casync"),
        of("zstd"),
        of("bsdiff")
    ));
    notes.push(format!("{} patches at level {LEVEL} in {seconds:.1} s on one processor", missing.len()));
    notes.push("casync: its chunks and index of root, verity and UKI; zstd: --patch-from -19; bsdiff: as it is".to_owned());
    Ok(Outcome { figures, notes, details })
}

type Tool = fn(&Image, &Image, &Path) -> anyhow::Result<u64>;

/// An update file, and its parts as files.
struct Image {
    file: UpdateFile,
    file_bytes: u64,
    parts: PathBuf,
}

impl Image {
    fn open(path: &Path, parts: &Path) -> anyhow::Result<Image> {
        let file = UpdateFile::open(path)?;
        fs::create_dir(parts)?;
        for part in PartName::ALL {
            file.copy_part(part, &mut File::create(parts.join(part.name()))?)?;
        }
        Ok(Image { file, file_bytes: fs::metadata(path)?.len(), parts: parts.to_owned() })
    }

    fn part(&self, part: PartName) -> PathBuf {
        self.parts.join(part.name())
    }

    /// Bytes of a chunk compressed by itself.
    fn whole(&self, chunk: &Chunk) -> u64 {
        self.file.compressed_bytes(&chunk.sha256).map_or(0, u64::from)
    }
}

/// Each as a patch, unless it is smaller by itself.
fn sent_as_patches(old: &Image, new: &Image, missing: &[Chunk], level: i32) -> anyhow::Result<u64> {
    let bases = bases(old.file.manifest().peek(), new.file.manifest().peek());
    let sent = |chunk: &Chunk| -> anyhow::Result<u64> {
        let whole = new.whole(chunk);
        let Some(base) = bases.get(&chunk.sha256) else { return Ok(RECORD_HEAD_BYTES + whole) };
        let patch = new.file.patch(chunk, &old.file, base, level)?.len() as u64;
        Ok(RECORD_HEAD_BYTES + patch.min(whole))
    };
    missing.iter().map(sent).sum()
}

/// Chunks that the old image's store has not, and the indices.
fn casync(old: &Image, new: &Image, directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let stores = ["old.castr", "new.castr"].map(|name| directory.join(name));
    for (image, store) in [(old, &stores[0]), (new, &stores[1])] {
        for part in PartName::ALL {
            let index = directory.join(format!("{}.caibx", part.name()));
            program::printed(Command::new("casync").arg("make").arg("--store").arg(store).args([&index, &image.part(part)]))?;
            if store == &stores[1] {
                bytes += fs::metadata(index)?.len();
            }
        }
    }
    for folder in fs::read_dir(&stores[1])? {
        let folder = folder?;
        // Beside the folders of chunks there is a folder for what is being written.
        for chunk in fs::read_dir(folder.path())? {
            let chunk = chunk?;
            if !stores[0].join(folder.file_name()).join(chunk.file_name()).exists() {
                bytes += chunk.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

fn zstd(old: &Image, new: &Image, directory: &Path) -> anyhow::Result<u64> {
    each_part(directory, |part, out| {
        let from = format!("--patch-from={}", old.part(part).display());
        program::printed(Command::new("zstd").args(["-q", "-f", "-19", &from]).arg(new.part(part)).arg("-o").arg(out))
    })
}

fn bsdiff(old: &Image, new: &Image, directory: &Path) -> anyhow::Result<u64> {
    each_part(directory, |part, out| program::printed(Command::new("bsdiff").args([&old.part(part), &new.part(part)]).arg(out)))
}

fn each_part(directory: &Path, make: impl Fn(PartName, &Path) -> anyhow::Result<String>) -> anyhow::Result<u64> {
    let out = directory.join("difference");
    let made = |part| -> anyhow::Result<u64> {
        make(part, &out)?;
        Ok(fs::metadata(&out)?.len())
    };
    PartName::ALL.into_iter().map(made).sum()
}

fn megabytes(bytes: u64) -> Samples {
    Samples::exact(bytes as f64 / 1e6)
}
