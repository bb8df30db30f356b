//! The last steps of an upgrade, each of which may be cut: the slot is read back, the record says what is to come, the UKI takes its place,
//! and the new entry is the flip. Everything blocks.

use anyhow::Context;
use machine::disk::Slot;
use update::{Manifest, PartName};

use super::esp::{Entry, current, image};
use super::index::of_manifest;
use super::parts::Parts;
use super::phase::{Event, Phase};
use super::progress::Reporter;
use super::records::{Kind, Record};
use super::session::Session;
use super::slots::SlotRecord;
use super::swap::Swap;
use super::tree;
use super::uki;
use crate::clock::wall_seconds;
use crate::refusal::Refusal;
use crate::resources::security::SecureBoot;
use crate::security;

/// What the record says besides what the slots say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The caller's identity.
    pub by: String,
    /// Whether an API server of the cluster answered.
    pub cluster_reachable: bool,
    /// Whether it was tried to start a pod, in vain.
    pub pods_fail: bool,
    /// Nodes that answered through the overlay.
    pub overlay_peers: Vec<String>,
    /// How often the boot loader tries the image.
    pub tries: u32,
    /// Whether somebody said that etcd's data need not be saved.
    pub without_snapshot: bool,
}

/// Reads back what was written and compares it with what was signed.
pub fn verify(swap: &Swap, session: &Session, reporter: &Reporter) -> Result<(), Refusal> {
    let manifest = &session.manifest;
    let slot = Parts::written(swap, swap.other())?;
    slot.sync()?;
    // Closed and opened again: the last one who closes a block device empties its cache, and unmounting does so for the ESP.
    drop(slot);
    let slot = Parts::written(swap, swap.other())?;
    let step = std::cell::RefCell::new(reporter.step("reading the slot back", manifest.total_bytes()));
    for part in &manifest.parts {
        let found = slot.digest(part.name, part.size_bytes, &|bytes| step.borrow_mut().advance(bytes))?;
        if found != part.sha256 {
            let problem = format!("part {} reads back with SHA-256 {found}; expected {}", part.name, part.sha256);
            if part.name == PartName::Verity && tree::is_made(swap, manifest, reporter)? {
                return Err(wrong_tree(&problem));
            }
            return Err(damaged(problem));
        }
    }
    let unreadable = |error| damaged(format!("{:#}", anyhow::Error::from(error)));
    let path = slot.path(PartName::Uki);
    uki::check(path, &manifest.root_hash.to_string()).map_err(unreadable)?;
    if security::secure_boot(&swap.root) == SecureBoot::On && !uki::is_signed(path).map_err(unreadable)? {
        let problem = "the machine's Secure Boot is on, and the update's UKI has no signature: the firmware would not start it";
        let remedy = "nothing boots it; have image-build sign it (--secure-boot-key) with a key that the firmware trusts";
        return Err(Refusal::state("NOT_SIGNED", problem.to_owned(), remedy));
    }
    Ok(())
}

fn damaged(problem: String) -> Refusal {
    let remedy = "nothing boots it; offer the update again: what is damaged is sent anew. If it stays so, the disk is failing";
    Refusal::state("DAMAGED", problem, remedy)
}

/// The root is what was signed, for it comes first, and the disk kept what was made of it.
fn wrong_tree(problem: &str) -> Refusal {
    let problem =
        format!("the update file is at fault: hashTree of its manifest makes another tree of the root than was signed: {problem}");
    Refusal::state("WRONG_HASH_TREE", problem, "nothing boots it; have the update file built again")
}

/// Has the next boot try what was verified.
pub fn flip(swap: &Swap, session: &Session, circumstances: &Circumstances) -> anyhow::Result<Record> {
    let manifest = &session.manifest;
    let version = manifest.version.to_string();
    let mut record = numbered(swap, session.number)?;
    pin(swap, &mut record, circumstances)?;
    note_slot(swap, manifest)?;
    record.happened(Event::Flipping);
    swap.records.put(&record)?;
    swap.failpoints.reach("start::recorded")?;
    tell_firmware(swap, circumstances.tries);
    let esp = swap.esp.open()?;
    swap.esp.replace_image(&esp, swap.other())?;
    swap.esp.flip(swap.other(), &version, &manifest.profile, circumstances.tries)?;
    swap.failpoints.reach("start::flipped")?;
    Ok(record)
}

/// Before the flip: an image that cannot be loaded must not leave the firmware waiting. Where it cannot be told (no variables, no room for
/// them), such an image costs a power-on by hand, and any other one nothing.
fn tell_firmware(swap: &Swap, tries: u32) {
    if let Err(error) = swap.disk.tell_firmware(tries) {
        tracing::warn!("the firmware keeps the boot options that it has: {error:#}");
    }
}

/// A way back to the other slot's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    pub slot: SlotRecord,
    /// Whether its config generation is still kept.
    pub generation: Option<u64>,
}

/// Whether the other slot can be gone back to.
pub fn way_back(swap: &Swap, entries: &[Entry]) -> Result<WayBack, Refusal> {
    let slot = swap.other();
    let nothing = |problem: String| Refusal::state("NOTHING_TO_ROLL_BACK_TO", problem, "see machinectl get slots; nothing was changed");
    let none = || nothing(format!("slot {} holds no image that was ever known to be good", slot.name()));
    current(entries, slot).filter(|entry| entry.blessed()).ok_or_else(none)?;
    let record = swap.slots.get(slot).ok_or_else(none)?;
    let esp = swap.esp.open()?;
    let checked = uki::check(&image(&esp, slot), &record.root_hash);
    checked.map_err(|error| nothing(format!("slot {}: {:#}", slot.name(), anyhow::Error::from(error))))?;
    let kept = crate::config::Generations::new(swap.root.config_directory()).numbers()?;
    let generation = Some(record.generation).filter(|generation| kept.contains(generation));
    Ok(WayBack { slot: record, generation })
}

/// The record of a rollback that is about to begin: nothing has changed yet.
pub fn begin_back(swap: &Swap, way: &WayBack, by: &str) -> anyhow::Result<Record> {
    let mut record = new_record(swap, Kind::Rollback, &way.slot.image_version, &way.slot.root_hash, by)?;
    record.restore = way.generation.unwrap_or(0);
    record.to_etcd = way.slot.etcd.clone();
    // Written and verified it was long ago.
    record.phase = Phase::Verifying;
    swap.records.put(&record)?;
    swap.failpoints.reach("rollback::begun")?;
    Ok(record)
}

/// Has the next boot try the other slot again.
pub fn go_back(swap: &Swap, mut record: Record, way: &WayBack, circumstances: &Circumstances) -> anyhow::Result<Record> {
    pin(swap, &mut record, circumstances)?;
    record.happened(Event::Flipping);
    swap.records.put(&record)?;
    swap.failpoints.reach("rollback::recorded")?;
    tell_firmware(swap, circumstances.tries);
    swap.esp.flip(way.slot.slot, &way.slot.image_version, &way.slot.profile, circumstances.tries)?;
    swap.failpoints.reach("rollback::flipped")?;
    Ok(record)
}

pub fn new_record(swap: &Swap, kind: Kind, to_version: &str, to_root_hash: &str, by: &str) -> anyhow::Result<Record> {
    Ok(Record {
        version: 0,
        number: swap.records.next_number()?,
        kind,
        from_version: swap.image.version.clone(),
        to_version: to_version.to_owned(),
        from_kubernetes: swap.image.kubernetes.clone(),
        from_etcd: swap.image.etcd.clone(),
        to_etcd: String::new(),
        from_slot: swap.running,
        to_slot: swap.other(),
        to_root_hash: to_root_hash.to_owned(),
        update: String::new(),
        generation: 0,
        restore: 0,
        started_at: wall_seconds(),
        started_by: by.to_owned(),
        phase: Phase::Writing,
        boots: 0,
        boot_id: swap.boot_id.clone(),
        cluster_reachable_before: false,
        written_bytes: 0,
        without_snapshot: false,
        pods_failed_before: false,
        overlay_peers_before: Vec::new(),
        reason: None,
        ended_at: 0,
    })
}

pub fn numbered(swap: &Swap, number: u64) -> anyhow::Result<Record> {
    let found = swap.records.list()?.into_iter().find(|record| record.number == number);
    found.with_context(|| format!("record {number} of the upgrade is gone"))
}

/// The config that the machine goes back to together with the running image, in the record and with the slot.
fn pin(swap: &Swap, record: &mut Record, circumstances: &Circumstances) -> anyhow::Result<()> {
    record.generation = swap.lasting_generation();
    record.cluster_reachable_before = circumstances.cluster_reachable;
    record.without_snapshot = circumstances.without_snapshot;
    record.pods_failed_before = circumstances.pods_fail;
    record.overlay_peers_before.clone_from(&circumstances.overlay_peers);
    record.boot_id = swap.boot_id.clone();
    let Some(running) = swap.slots.get(swap.running) else { return Ok(()) };
    swap.slots.put(&SlotRecord { generation: record.generation, ..running })
}

fn note_slot(swap: &Swap, manifest: &Manifest) -> anyhow::Result<()> {
    let (slot, root_hash): (Slot, String) = (swap.other(), manifest.root_hash.to_string());
    swap.slots.put_chunks(slot, &root_hash, &of_manifest(manifest))?;
    let kubernetes = manifest.kubernetes.as_ref().map(|version| format!("v{version}")).unwrap_or_default();
    swap.slots.put(&SlotRecord { kubernetes, ..SlotRecord::new(slot, &manifest.version.to_string(), &manifest.profile, &root_hash) })
}
