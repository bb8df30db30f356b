//! An update on its way into the slot that is not running: what is copied, what is still missing, what came. Everything blocks.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use machine::disk::Partition;
use nix::sys::statvfs::statvfs;
use update::{Base, Chunk, Digest, Manifest, PartName, decompress};

use super::base::{self, Running};
use super::disk::size_of;
use super::esp::{Entry, current, image, new_image};
use super::index;
use super::offer::Room;
use super::parts::Parts;
use super::progress::Reporter;
use super::start::numbered;
use super::survey::{Survey, Target, survey, targets};
use super::swap::Swap;
use super::tree;
use super::upload::Sent;
use crate::refusal::Refusal;

/// Bytes that are written before they are made to reach the disk: what the kernel holds back for us never grows beyond it.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// The update that was offered last.
#[derive(Debug)]
pub struct Session {
    pub update: Digest,
    pub manifest: Manifest,
    /// Number of its record.
    pub number: u64,
    targets: HashMap<Digest, (Chunk, Vec<Target>)>,
    missing: HashMap<Digest, Chunk>,
    /// Bytes that were written to the slot and stand in no record yet.
    written: u64,
}

/// A slot that is being written to.
#[derive(Debug)]
pub struct Writer {
    parts: Parts,
    /// Bytes that may not have reached the disk.
    pending: u64,
    /// What patches are made against; opened by the first of them.
    running: Option<Running>,
}

impl Writer {
    pub fn open(swap: &Swap) -> anyhow::Result<Writer> {
        Ok(Writer { parts: Parts::to_write(swap, swap.other())?, pending: 0, running: None })
    }

    /// How many bytes were written: what is there already is not.
    fn write(&mut self, swap: &Swap, (part, offset): Target, bytes: &[u8]) -> anyhow::Result<u64> {
        let written = self.parts.write(part, offset, bytes)?;
        swap.failpoints.reach("slot::chunk-written")?;
        self.count(swap, written)
    }

    /// The same of a block of the root's hash tree.
    pub fn write_hashes(&mut self, swap: &Swap, offset: u64, block: &[u8]) -> anyhow::Result<u64> {
        let written = self.parts.write(PartName::Verity, offset, block)?;
        swap.failpoints.reach("slot::hashes-written")?;
        self.count(swap, written)
    }

    fn count(&mut self, swap: &Swap, written: u64) -> anyhow::Result<u64> {
        self.pending += written;
        if self.pending >= BATCH_BYTES {
            self.sync(swap)?;
        }
        Ok(written)
    }

    fn patched(&mut self, swap: &Swap, base: &Base, data: &[u8], chunk: &Chunk) -> Result<Vec<u8>, Refusal> {
        let running = match self.running.take() {
            Some(running) => running,
            None => Running::open(swap).map_err(|error| base::mismatch(chunk, format!("{error:#}")))?,
        };
        self.running.insert(running).patched(base, data, chunk)
    }

    pub fn sync(&mut self, swap: &Swap) -> anyhow::Result<()> {
        self.parts.sync()?;
        self.pending = 0;
        Ok(swap.failpoints.reach("slot::synced")?)
    }
}

/// How large a part may be on this machine. The slot's own UKI gives its place to the new one.
pub fn room(swap: &Swap) -> anyhow::Result<Room> {
    let slot = swap.other();
    let device = |partition: Partition| {
        let path = swap.disk.device(partition)?;
        size_of(&path).with_context(|| format!("reading {}", path.display()))
    };
    let esp = swap.esp.open()?;
    let free = statvfs(esp.path()).with_context(|| format!("asking for the space on {}", esp.path().display()))?;
    let free = free.blocks_available() * free.fragment_size();
    let kept = [new_image(&esp, slot), image(&esp, slot)].into_iter().find_map(|path| Some(path.metadata().ok()?.len()));
    Ok(Room { root: device(slot.root())?, verity: device(slot.verity())?, uki: free + kept.unwrap_or(0) })
}

/// Compares the update with what is on the machine. Nothing is written but the list of the running image's chunks.
pub fn look(swap: &Swap, manifest: &Manifest, reporter: &Reporter) -> anyhow::Result<Survey> {
    let running = index::of_running(swap, reporter)?;
    survey(manifest, &Parts::written(swap, swap.other())?, &running, reporter)
}

impl Session {
    /// Takes the slot out of the boot order and copies into it what the running image has.
    pub fn begin(
        swap: &Swap,
        (update, manifest, number): (Digest, Manifest, u64),
        survey: Survey,
        reporter: &Reporter,
    ) -> anyhow::Result<Session> {
        let slot = swap.other();
        let fallback = swap.esp.entries()?;
        ensure!(
            current(&fallback, swap.running).is_some_and(Entry::blessed),
            "the boot loader has no entry that is known to be good for the running slot {}: the other slot is left alone",
            swap.running.name()
        );
        // From here on nobody boots the slot, and nobody takes it for what it was.
        swap.esp.remove(slot)?;
        swap.slots.forget(slot)?;
        swap.failpoints.reach("offer::slot-forgotten")?;
        let esp = swap.esp.open()?;
        swap.esp.reuse_image(&esp, slot)?;
        let mut missing: HashMap<Digest, Chunk> = survey.missing.iter().map(|chunk| (chunk.sha256, *chunk)).collect();
        let running = Parts::of(swap, swap.running)?;
        let mut writer = Writer::open(swap)?;
        let total = survey.copy.iter().map(|(chunk, ..)| u64::from(chunk.size)).sum();
        let mut step = reporter.step("copying what the running image has", total);
        let mut written = 0;
        for (chunk, from, to) in survey.copy {
            let bytes = running.read(from.0, from.1, chunk.size)?;
            // Had the list of the running image's chunks an error, the chunk comes from the update.
            if bytes.len() == chunk.size as usize && Digest::of(&bytes) == chunk.sha256 {
                written += writer.write(swap, to, &bytes)?;
            } else {
                missing.insert(chunk.sha256, chunk);
            }
            step.advance(u64::from(chunk.size));
        }
        writer.parts.fit_uki(&manifest)?;
        writer.sync(swap)?;
        let mut session = Session { update, targets: targets(&manifest), manifest, number, missing, written };
        session.note_written(swap)?;
        Ok(session)
    }

    /// Chunks that nobody here has, in the order in which the parts need them.
    pub fn missing(&self) -> Vec<Chunk> {
        self.manifest.distinct_chunks().into_iter().filter(|chunk| self.missing.contains_key(&chunk.sha256)).collect()
    }

    pub fn missing_count(&self) -> usize {
        self.missing.len()
    }

    /// Writes a chunk that was sent wherever it belongs; its size, or 0 for one that was there already.
    pub fn take(&mut self, swap: &Swap, writer: &mut Writer, sent: &Sent) -> Result<u64, Refusal> {
        let digest: [u8; 32] = sent
            .digest
            .as_slice()
            .try_into()
            .map_err(|_| Refusal::field("digest", format!("{} bytes; expected the 32 bytes of a SHA-256", sent.digest.len())))?;
        let digest = Digest(digest);
        sent.base.as_ref().map_or(Ok(()), base::check)?;
        let unknown = || Refusal::field("digest", format!("{digest} is no chunk of the update that was offered"));
        let (chunk, targets) = self.targets.get(&digest).ok_or_else(unknown)?;
        if !self.missing.contains_key(&digest) {
            return Ok(0);
        }
        let bad = |error: update::BadChunk| Refusal::field("data", format!("chunk {digest}: {:#}", anyhow::Error::from(error)));
        let bytes = match &sent.base {
            None => decompress(&sent.data, chunk).map_err(bad)?,
            Some(base) => writer.patched(swap, base, &sent.data, chunk)?,
        };
        for target in targets {
            self.written += writer.write(swap, *target, &bytes)?;
        }
        self.missing.remove(&digest);
        Ok(bytes.len() as u64)
    }

    /// Makes the hash tree of the root that lies in the slot, whole, where the update leaves that to the machine.
    pub fn make_tree(&mut self, swap: &Swap, reporter: &Reporter) -> anyhow::Result<()> {
        self.written += tree::write(swap, &self.manifest, reporter)?;
        self.note_written(swap)
    }

    /// Adds to the record what was written since the last time. A power cut in between takes that along.
    pub fn note_written(&mut self, swap: &Swap) -> anyhow::Result<()> {
        if self.written > 0 {
            let mut record = numbered(swap, self.number)?;
            record.written_bytes += self.written;
            swap.records.put(&record)?;
            self.written = 0;
        }
        Ok(())
    }
}
