//! Whether an update that is offered is taken: all that can be said before anything is written.

use update::{Digest, Manifest, PartName, Policy, Refused, Running, SignedManifest, TrustedKeys, admissible};

use super::phase::Phase;
use super::records::{Kind, Record};
use crate::refusal::Refusal;

/// What the caller wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The signed manifest, as the update file has it.
    pub manifest: Vec<u8>,
    pub dry_run: bool,
    pub allow_downgrade: bool,
    pub retry_failed: bool,
    /// The caller's identity.
    pub by: String,
}

/// What the machine is.
#[derive(Debug, Clone)]
pub struct Seen {
    pub keys: TrustedKeys,
    /// Seconds since the epoch.
    pub now: u64,
    pub running: Running,
    /// Whether the running image is still to prove itself.
    pub on_trial: bool,
    /// Oldest first.
    pub records: Vec<Record>,
    pub room: Room,
}

/// Bytes that a part may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub root: u64,
    pub verity: u64,
    pub uki: u64,
}

/// An update that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub update: Digest,
    pub manifest: Manifest,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// This image runs already.
    Runs,
    /// The next boot tries it already.
    Staged,
    /// It was begun before, under this number.
    Resume(u64),
    /// Nothing of it is known. What is under way gives way to it.
    New { instead_of: Option<u64> },
}

pub fn judge(wanted: &Wanted, seen: &Seen) -> Result<Taken, Refusal> {
    let signed = SignedManifest::parse(&wanted.manifest).map_err(|error| Refusal::field("manifest", chain(&error)))?;
    let untrusted = |error| Refusal::state("UNTRUSTED", format!("the update is not taken: {error}"), "nothing was changed");
    let manifest = signed.verify(&seen.keys, seen.now).map_err(untrusted)?;
    let update = signed.id();
    let taken = |how| Ok(Taken { update, manifest: manifest.clone(), how });
    match admissible(&manifest, &seen.running, &Policy { allow_downgrade: wanted.allow_downgrade }) {
        Ok(()) => {}
        Err(Refused::SameImage { .. }) => return taken(How::Runs),
        Err(refused) => return Err(Refusal::state("NOT_ADMISSIBLE", refused.to_string(), "nothing was changed")),
    }
    fits(&manifest, seen.room)?;
    if seen.on_trial {
        let remedy = "wait until the health gate has decided (machinectl get upgrades), or give the image up: machinectl rollback";
        let problem = "the running image is on trial: until it is known to be good, the image before it is not written over";
        return Err(Refusal::state("ON_TRIAL", problem, remedy));
    }
    if !wanted.retry_failed {
        not_failed_before(&manifest, &seen.records)?;
    }
    let under_way = seen.records.last().filter(|record| !record.phase.is_over());
    let same = |record: &&Record| record.kind == Kind::Upgrade && record.update == update.to_string();
    match (under_way.filter(same), under_way) {
        (Some(record), _) => match record.phase {
            Phase::Writing | Phase::Verifying => taken(How::Resume(record.number)),
            _ => taken(How::Staged),
        },
        (None, Some(record)) if record.phase == Phase::Booting => {
            let problem = format!("the machine is about to boot {}", record.to_version);
            Err(Refusal::state("UPGRADE_UNDER_WAY", problem, "offer the update again when it is back"))
        }
        (None, under_way) => taken(How::New { instead_of: under_way.map(|record| record.number) }),
    }
}

/// An image that did not prove itself is not tried again unless somebody says so.
fn not_failed_before(manifest: &Manifest, records: &[Record]) -> Result<(), Refusal> {
    let version = manifest.version.to_string();
    let failed = |record: &&Record| record.phase == Phase::Failed && record.kind == Kind::Upgrade && record.to_version == version;
    // One that was good since then has made up for it.
    let newest =
        records.iter().rev().find(|record| record.to_version == version && record.phase.is_over() && record.phase != Phase::Cancelled);
    let Some(record) = newest.filter(failed) else { return Ok(()) };
    let reason = record.reason.clone().unwrap_or_default();
    let problem = format!("version {version} failed on this machine before: {}: {}", reason.check, reason.message);
    Err(Refusal::state("FAILED_BEFORE", problem, "allow it to be tried once more: --retry-failed"))
}

fn fits(manifest: &Manifest, room: Room) -> Result<(), Refusal> {
    let too_large = |what: &str, needed: u64, there: u64| {
        let problem = format!("{what} needs {needed} bytes; this machine has {there}");
        Err(Refusal::state("NO_SPACE", problem, "partitions keep their sizes: install the machine anew from an image of that version"))
    };
    if manifest.slot_bytes > room.root {
        return too_large("the slot of this update", manifest.slot_bytes, room.root);
    }
    for part in &manifest.parts {
        let there = match part.name {
            PartName::Root => room.root,
            PartName::Verity => room.verity,
            PartName::Uki => room.uki,
        };
        if part.size_bytes > there {
            return too_large(&format!("part {} of this update", part.name), part.size_bytes, there);
        }
    }
    Ok(())
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
