//! Stretches of the running image that patches are made against. A client names them, so each is checked against what the image has.

use std::collections::HashMap;

use anyhow::Context;
use update::{BadChunk, Base, Chunk, MAX_BASE_BYTES, PartName, decompress_from};

use super::index;
use super::parts::Parts;
use super::swap::Swap;
use crate::refusal::Refusal;

/// The running image, open to read.
#[derive(Debug)]
pub struct Running {
    parts: Parts,
    /// Bytes of each part, as the list of its chunks has them: the partition beyond is not the image.
    sizes: HashMap<PartName, u64>,
}

impl Running {
    pub fn open(swap: &Swap) -> anyhow::Result<Running> {
        let sizes = index::sizes_of_running(swap).context("the list of the running image's chunks is gone")?;
        Ok(Running { parts: Parts::of(swap, swap.running)?, sizes })
    }

    /// The chunk that a patch makes.
    pub fn patched(&self, base: &Base, data: &[u8], chunk: &Chunk) -> Result<Vec<u8>, Refusal> {
        let stretch = self.stretch(base).map_err(|error| mismatch(chunk, format!("{error:#}")))?;
        decompress_from(&stretch, data, chunk).map_err(|error| match error {
            BadChunk::TooLong { .. } => Refusal::field("data", format!("chunk {}: {error}", chunk.sha256)),
            BadChunk::Zstd { .. } | BadChunk::Difference(_) | BadChunk::Size { .. } | BadChunk::Digest { .. } => {
                let problem = format!("what it makes of {} bytes at {} of the part {}: ", base.length, base.offset, base.part);
                mismatch(chunk, problem + &format!("{:#}", anyhow::Error::from(error)))
            }
        })
    }

    /// Never more than [`MAX_BASE_BYTES`]: [`check`] was asked before.
    fn stretch(&self, base: &Base) -> anyhow::Result<Vec<u8>> {
        let size = self.sizes.get(&base.part).copied().unwrap_or(0);
        let end = base.offset.checked_add(u64::from(base.length));
        anyhow::ensure!(
            end.is_some_and(|end| end <= size),
            "its base ends beyond the part {} of the running image, which has {size} bytes",
            base.part
        );
        let stretch = self.parts.read(base.part, base.offset, base.length)?;
        anyhow::ensure!(stretch.len() == base.length as usize, "{} is shorter than it was", self.parts.path(base.part).display());
        Ok(stretch)
    }
}

/// What no client sends that knows the limits.
pub fn check(base: &Base) -> Result<(), Refusal> {
    if (1..=MAX_BASE_BYTES).contains(&base.length) {
        return Ok(());
    }
    Err(Refusal::field("base.length_bytes", format!("{}; expected 1 to {MAX_BASE_BYTES}", base.length)))
}

/// The stretch is not there, or is another one.
pub fn mismatch(chunk: &Chunk, problem: String) -> Refusal {
    let problem = format!("patch for chunk {}: {problem}", chunk.sha256);
    Refusal::state("BASE_MISMATCH", problem, "offer the update again and send the chunk whole")
}
