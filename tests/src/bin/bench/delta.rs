//! What is sent to a machine that runs one image and gets another: chunks that it lacks, the same as patches, and what other tools make of the
//! pair. All of them have the machine's image at hand, and so has `machinectl upgrade --from`.

pub mod pairs;

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ::tests::program;
use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;
use update::{Chunk, PartName, UpdateFile};

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use pairs::{Kind, Pair};

/// What machinectl takes.
const LEVEL: i32 = 9;
/// Digest and length before each chunk, in the file and much the same on the wire.
const RECORD_HEAD_BYTES: u64 = 36;

/// Two update files.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Of delta: update file of the image that runs; of apply: of the one that is taken first [default: those that they make]
    #[arg(long, value_name = "FILE", requires = "new")]
    old: Option<PathBuf>,
    /// Of delta and apply: update file of the one that comes after it
    #[arg(long, value_name = "FILE", requires = "old")]
    new: Option<PathBuf>,
    /// Of delta: which of its own pairs [default: all of them]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "old")]
    pairs: Vec<Kind>,
}

impl Named {
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.old.as_deref().zip(self.new.as_deref())
    }

    fn pairs(&self) -> anyhow::Result<Vec<Pair>> {
        let kinds = if self.pairs.is_empty() { Kind::value_variants() } else { &self.pairs };
        let Some((old, new)) = self.files() else { return kinds.iter().map(|kind| kind.make()).collect() };
        Ok(vec![Pair { name: "named".to_owned(), old: old.to_owned(), new: new.to_owned(), goal: None, peers: true }])
    }
}

pub fn measure(named: &Named) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        notes: vec![
            format!("percent of the whole new update file; all with the signed manifest; patches as machinectl makes them, level {LEVEL}"),
            "casync: its chunks and index of root, verity and UKI; zstd: --patch-from -19; bsdiff: as it is".to_owned(),
        ],
        details: json!({}),
        ..Outcome::default()
    };
    for pair in named.pairs()? {
        compare(&pair, &mut outcome).with_context(|| pair.name.clone())?;
    }
    Ok(outcome)
}

fn compare(pair: &Pair, outcome: &mut Outcome) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let old = Image::open(&pair.old, &directory.path().join("old")).context("reading the old update file")?;
    let new = Image::open(&pair.new, &directory.path().join("new")).context("reading the new update file")?;
    let whole = new.file_bytes;
    let envelope = new.file.manifest().bytes().len() as u64;
    let known: HashSet<Chunk> = old.file.manifest().peek().distinct_chunks().into_iter().collect();
    // A machine makes the hash tree itself where it can.
    let missing: Vec<Chunk> = new.file.manifest().peek().needed_chunks().into_iter().filter(|chunk| !known.contains(chunk)).collect();
    let chunks = envelope + missing.iter().map(|chunk| RECORD_HEAD_BYTES + new.whole(chunk)).sum::<u64>();
    let began = Instant::now();
    let parts = sent_as_patches(&old, &new, &missing, LEVEL)?;
    let seconds = began.elapsed().as_secs_f64();
    let patches = envelope + parts.iter().sum::<u64>();
    let mut details = json!({ "whole": whole, "missingChunks": missing.len(), "manifest": envelope, "chunks": chunks, "patches": patches,
        "root": parts[0], "verity": parts[1], "uki": parts[2], "patchSeconds": seconds });

    let name = |what: &str| format!("{}: {what}", pair.name);
    let percent = |bytes: u64| Samples::exact(bytes as f64 * 100.0 / whole as f64);
    // With no chunk missing there is nothing but the manifest, which any update needs.
    let goal = match pair.goal {
        Some(most) if most > 0.0 => Goal::AtMost(most),
        _ => Goal::None,
    };
    outcome.figures.push(Figure::alone(name("sent, with patches"), Unit::Percent, percent(patches), goal));
    if pair.goal == Some(0.0) {
        let number = Samples::exact(missing.len() as f64);
        outcome.figures.push(Figure::alone(name("chunks that are sent"), Unit::Count, number, Goal::AtMost(0.0)));
    }
    let peers: [(&str, &str, u64, Tool); 3] =
        [("chunks", "casync", chunks, casync), ("patches", "zstd", patches, zstd), ("patches", "bsdiff", patches, bsdiff)];
    for (what, tool, ours, measure) in peers.into_iter().filter(|_| pair.peers) {
        if Command::new(tool).arg("--help").output().is_err() {
            outcome.notes.push(format!("{tool} is not installed: left out"));
            continue;
        }
        let theirs = measure(&old, &new, directory.path()).with_context(|| tool.to_owned())?;
        details[tool] = theirs.into();
        let name = name(&format!("{what} (peer: {tool})"));
        outcome.figures.push(Figure::beside(name, Unit::Percent, percent(ours), percent(theirs), Goal::None));
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    outcome.notes.push(format!(
        "{}: whole {:.2} MB; {} chunks missing, {:.2} MB whole; patches {:.2} MB (manifest {:.2}, root {:.2}, verity {:.2}, UKI {:.2}), made in \
         {seconds:.1} s on one processor",
        pair.name,
        mb(whole),
        missing.len(),
        mb(chunks),
        mb(patches),
        mb(envelope),
        mb(parts[0]),
        mb(parts[1]),
        mb(parts[2]),
    ));
    outcome.details[&pair.name] = details;
    Ok(())
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

/// Bytes of root, verity and UKI: each chunk as a patch, unless it is smaller by itself.
fn sent_as_patches(old: &Image, new: &Image, missing: &[Chunk], level: i32) -> anyhow::Result<[u64; 3]> {
    let bases = new.file.bases(&old.file)?;
    let mut missing: HashSet<Chunk> = missing.iter().copied().collect();
    let mut sent = [0; 3];
    for (part, sent) in PartName::ALL.into_iter().zip(&mut sent) {
        for chunk in new.file.manifest().peek().part(part).into_iter().flat_map(|part| &part.chunks) {
            if missing.remove(chunk) {
                let whole = new.whole(chunk);
                let patch = bases.get(&chunk.sha256).map(|base| new.file.patch(chunk, &old.file, base, level)).transpose()?;
                *sent += RECORD_HEAD_BYTES + patch.map_or(whole, |patch| whole.min(patch.len() as u64));
            }
        }
    }
    Ok(sent)
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
