//! What of an update is in the slot already, what the running image has, and what must be sent. The slot is looked at first: what is right
//! there is not written again.

use std::collections::{HashMap, HashSet};

use update::{Chunk, Digest, Manifest, PartName};

use super::index::Index;
use super::parts::Parts;
use super::progress::Reporter;

/// Where a chunk goes.
pub type Target = (PartName, u64);

/// Every place of the parts that an update's machine needs is in one of three heaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Chunks of the running image, with where they lie there, in the order in which the parts need them.
    pub copy: Vec<(Chunk, Target, Target)>,
    /// Chunks that nobody here has, each once, in that order.
    pub missing: Vec<Chunk>,
}

/// Reads the slot whole and compares.
pub fn survey(manifest: &Manifest, slot: &Parts, running: &Index, reporter: &Reporter) -> anyhow::Result<Survey> {
    let total = manifest.needed_parts().map(|part| part.size_bytes).sum();
    let mut step = reporter.step("looking at what the slot has", total);
    let (mut survey, mut seen) = (Survey::default(), HashSet::new());
    for part in manifest.needed_parts() {
        for (offset, chunk) in part.placed_chunks() {
            step.advance(u64::from(chunk.size));
            if holds(slot, part.name, offset, chunk)? {
                continue;
            }
            match running.get(&chunk.sha256) {
                Some(from) => survey.copy.push((*chunk, *from, (part.name, offset))),
                None if seen.insert(chunk.sha256) => survey.missing.push(*chunk),
                None => {}
            }
        }
    }
    Ok(survey)
}

/// Whether a chunk lies at its place.
pub fn holds(slot: &Parts, part: PartName, offset: u64, chunk: &Chunk) -> anyhow::Result<bool> {
    let bytes = slot.read(part, offset, chunk.size)?;
    Ok(bytes.len() == chunk.size as usize && Digest::of(&bytes) == chunk.sha256)
}

/// All places of each chunk. One that a machine does not need has none.
pub fn targets(manifest: &Manifest) -> HashMap<Digest, (Chunk, Vec<Target>)> {
    let chunks = manifest.distinct_chunks().into_iter();
    let mut targets: HashMap<Digest, (Chunk, Vec<Target>)> = chunks.map(|chunk| (chunk.sha256, (chunk, Vec::new()))).collect();
    for part in manifest.needed_parts() {
        for (offset, chunk) in part.placed_chunks() {
            targets.entry(chunk.sha256).or_insert_with(|| (*chunk, Vec::new())).1.push((part.name, offset));
        }
    }
    targets
}
