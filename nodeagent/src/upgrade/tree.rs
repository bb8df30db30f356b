//! The dm-verity tree of the root that was written: where the manifest says what it is made of, the machine makes it itself. Everything blocks.

use anyhow::Context;
use update::{HashTree, Manifest, PartName};

use super::parts::Parts;
use super::progress::Reporter;
use super::session::Writer;
use super::swap::Swap;

/// Makes the tree of the root as it lies in the slot, writes those of its blocks that differ, and says how many bytes that were.
pub fn write(swap: &Swap, manifest: &Manifest, reporter: &Reporter) -> anyhow::Result<u64> {
    let Some(tree) = &manifest.hash_tree else { return Ok(0) };
    let (slot, mut writer) = (Parts::written(swap, swap.other())?, Writer::open(swap)?);
    let mut written = 0;
    each_block(&slot, manifest, tree, reporter, "making the verity tree", |offset, block| {
        written += writer.write_hashes(swap, offset, block)?;
        Ok(())
    })?;
    writer.sync(swap)?;
    Ok(written)
}

/// Whether the slot holds just the tree that its root makes.
pub fn is_made(swap: &Swap, manifest: &Manifest, reporter: &Reporter) -> anyhow::Result<bool> {
    let Some(tree) = &manifest.hash_tree else { return Ok(false) };
    let slot = Parts::written(swap, swap.other())?;
    let mut same = true;
    each_block(&slot, manifest, tree, reporter, "comparing the verity tree", |offset, block| {
        same &= slot.read(PartName::Verity, offset, block.len() as u32)? == block;
        Ok(())
    })?;
    Ok(same)
}

fn each_block(
    slot: &Parts,
    manifest: &Manifest,
    tree: &HashTree,
    reporter: &Reporter,
    what: &str,
    mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let size = manifest.part(PartName::Root).map_or(0, |root| root.size_bytes);
    let step = std::cell::RefCell::new(reporter.step(what, size));
    let progress = |bytes| step.borrow_mut().advance(bytes);
    for block in tree.blocks(slot.counted(PartName::Root, size, &progress)?, size)? {
        let (offset, block) = block.with_context(|| format!("reading {}", slot.path(PartName::Root).display()))?;
        take(offset, &block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
