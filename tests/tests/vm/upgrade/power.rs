//! Power cuts while the image is swapped. Whatever is cut: the machine comes up with its config in the old image or in the new one, what its
//! boot loader would start is whole, and the same command again gets to the end.

pub mod disk;
mod prepared;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use machine::disk::Slot;
use testbed::nbd::{CutAt, NbdDisk};
use tests::node::Up;
use tests::until::{BETWEEN_LOOKS, until};

use super::swap::{last_record, running, upgrade};
use crate::seeds;
use prepared::{BLESSING, Prepared, generation, kept, second_config};

/// Longest time from power-on, or from the command, to the cut.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the agent clears up when it starts.
const TIDY: Duration = Duration::from_secs(60);

/// What the power cut interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// Offer and Upload, and what follows them: counted from the command.
    Upload,
    /// Start until the reboot: counted from when all is written.
    Start,
    /// The boot loader's count and the new image's first boot, until it is kept: counted from power-on.
    Trial,
    /// The command, the boot of the old image and its trial.
    Rollback,
    /// A config while the new image is on trial.
    Apply,
}

/// A power cut: when, and what decides the fate of writes that were not flushed.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub during: During,
    pub at: CutAt,
    pub seed: u64,
}

/// The state that cuts begin from, for all tests of this process.
static PREPARED: Mutex<Option<Prepared>> = Mutex::new(None);

impl Cut {
    /// A cut that the seed chooses, at a flush or at a write among those that the phase was seen to make.
    fn of(during: During, seed: u64) -> Cut {
        let (flushes, writes) = match during {
            During::Upload => (80, 320),
            During::Start => (30, 60),
            During::Trial => (100, 140),
            During::Rollback => (130, 200),
            During::Apply => (20, 60),
        };
        Cut { during, at: seeds::cut_at(seed, flushes, writes), seed }
    }

    /// Interrupts a machine, lets it boot again, looks at it, and repeats what was interrupted.
    pub fn happens(self) -> anyhow::Result<()> {
        let mut guard = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = match guard.take() {
            Some(prepared) => prepared,
            None => Prepared::new().context("the states that cuts begin from")?,
        };
        let outcome = self.happens_to(&mut prepared);
        prepared.node.kill();
        *guard = Some(prepared);
        outcome
    }

    fn happens_to(self, prepared: &mut Prepared) -> anyhow::Result<()> {
        let began = Instant::now();
        let disk = match self.during {
            During::Upload | During::Start => prepared.configured.copy()?,
            During::Trial | During::Apply => prepared.staged.copy()?,
            During::Rollback => prepared.blessed.copy()?,
        };
        let (flushes, writes) = (disk.flushes(), disk.writes());
        let answered = self.interrupt(prepared, &disk)?;
        let fired = disk.wait_cut(Duration::ZERO);
        let (flushes, writes) = (disk.flushes() - flushes, disk.writes() - writes);
        let report = disk.cut(self.seed)?;
        let when = if answered { "after it was done" } else { "before it was done" };
        println!(
            "  {self:?}: {when}, {}; {report:?}",
            if fired { "at the trigger".to_owned() } else { format!("by hand, {flushes} flushes and {writes} writes in all") }
        );

        prepared.node.boot(&disk)?;
        let up = prepared.node.up()?;
        ensure!(up == Up::Configured, "the config is lost");
        let found = self.look(prepared, &disk, answered)?;
        let end = self.again(prepared, &disk)?;
        println!("    {found}; the command again: {end}; {} s", began.elapsed().as_secs());
        Ok(())
    }

    /// Whether the command had been answered when the power went, or what was waited for had come.
    fn interrupt(self, prepared: &mut Prepared, disk: &NbdDisk) -> anyhow::Result<bool> {
        let began = Instant::now();
        let file = prepared.update.to_str().context("a path in UTF-8")?.to_owned();
        let node = &mut prepared.node;
        if self.during == During::Trial {
            disk.cut_at(self.at);
            node.boot(disk)?;
            let mut done = false;
            while !disk.wait_cut(BETWEEN_LOOKS) && !done && began.elapsed() < PATIENCE {
                done = node.fingerprint()?.is_none() && kept(node, "b").is_ok();
            }
            node.kill();
            return Ok(done);
        }
        node.boot(disk)?;
        node.up()?;
        let config = second_config(node)?;
        let command = match self.during {
            During::Upload | During::Start => vec!["upgrade", &file, "--yes", "--no-drain", "--no-wait"],
            During::Rollback => vec!["rollback", "--yes", "--no-drain", "--wait", "5m"],
            During::Apply | During::Trial => vec!["apply", "-f", &config, "--timeout", "60s"],
        };
        if self.during != During::Start {
            disk.cut_at(self.at);
        }
        let shared = &*node;
        let answered = std::thread::scope(|scope| {
            let work = scope.spawn(|| shared.ask(&Up::Configured, &command));
            if self.during == During::Start {
                let written = || last_record(shared).is_ok_and(|record| record["status"]["phase"] != "writing");
                while !work.is_finished() && !written() && began.elapsed() < PATIENCE {}
                disk.cut_at(self.at);
            }
            while !disk.wait_cut(BETWEEN_LOOKS) && !work.is_finished() && began.elapsed() < PATIENCE {}
            // Asked before the machine goes: an answer that comes later was none to its user.
            let answered = work.is_finished();
            shared.machine()?.record().process.kill();
            let outcome = work.join().map_err(|_| anyhow::anyhow!("the command panicked"))?;
            if answered && let Err(error) = &outcome {
                anyhow::bail!("the command failed before the cut: {error:#}");
            }
            anyhow::Ok(answered)
        });
        node.kill();
        answered
    }

    /// What must be true of a machine after any cut; what it was found to run, in words.
    fn look(self, prepared: &Prepared, disk: &NbdDisk, answered: bool) -> anyhow::Result<String> {
        let node = &prepared.node;
        let (version, slot) = running(node)?;
        ensure!([("0.1.0", "a"), ("0.2.0", "b")].contains(&(version.as_str(), slot.as_str())), "{version} runs from slot {slot}");
        let generation = generation(node)?;
        let belongs = match (self.during, version.as_str()) {
            (During::Upload | During::Start | During::Trial, _) | (During::Apply | During::Rollback, "0.1.0") => vec![1],
            (During::Rollback, _) => vec![2],
            (During::Apply, _) if answered => vec![2],
            (During::Apply, _) => vec![1, 2],
        };
        ensure!(belongs.contains(&generation), "{version} runs with config {generation}, not one of {belongs:?}");
        sane(prepared, disk)?;
        let log = node.ask(&Up::Configured, &["dmesg", "--timeout", "60s"])?;
        let bad: Vec<&str> = log.lines().filter(|line| line.contains("is corrupted") || line.contains("verity: Error")).collect();
        ensure!(bad.is_empty(), "{bad:?}");
        let record = last_record(node).map_or_else(|_| "no record".to_owned(), |record| format!("record: {}", record["status"]["phase"]));
        Ok(format!("{version} with config {generation}, {record}"))
    }

    /// Repeats what was interrupted, until its end.
    fn again(self, prepared: &Prepared, disk: &NbdDisk) -> anyhow::Result<String> {
        let node = &prepared.node;
        let (version, slot) = running(node)?;
        let end = if self.during == During::Rollback { ("0.1.0", "a") } else { ("0.2.0", "b") };
        let words = if (version.as_str(), slot.as_str()) == end {
            "runs already"
        } else if self.during == During::Rollback {
            node.ask(&Up::Configured, &["rollback", "--yes", "--no-drain", "--wait", "8m"])?;
            "rolled back"
        } else if last_record(node).is_ok_and(|record| record["status"]["phase"] == "failed") {
            let file = prepared.update.to_str().context("a path in UTF-8")?;
            node.ask(&Up::Configured, &["upgrade", file, "--yes", "--no-drain", "--wait", "8m", "--retry-failed"])?;
            "upgraded, having failed before"
        } else {
            upgrade(node, &prepared.update)?;
            "upgraded"
        };
        until("an image that is kept", BLESSING, || kept(node, end.1))?;
        ensure!(running(node)? == (end.0.to_owned(), end.1.to_owned()), "{:?} runs", running(node)?);
        if self.during == During::Apply {
            node.ask(&Up::Configured, &["apply", "-f", &second_config(node)?])?;
            until("the second config", TIDY, || {
                ensure!(generation(node)? == 2, "it is not in force yet");
                Ok(())
            })?;
        }
        sane(prepared, disk)?;
        Ok(words.to_owned())
    }
}

/// At most one entry a slot and nothing half written, and whatever the boot loader would start is whole.
fn sane(prepared: &Prepared, disk: &NbdDisk) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let names = until("one entry a slot", TIDY, || one_entry_a_slot(disk, folder.path()))?;
    for (slot, version) in [(Slot::A, "0.1.0"), (Slot::B, "0.2.0")] {
        if names.iter().any(|name| name.starts_with(&format!("corten-{}", slot.name())) && !name.contains("+0")) {
            disk::holds(disk, slot, &prepared.image(version), folder.path())?;
        }
    }
    Ok(())
}

fn one_entry_a_slot(disk: &NbdDisk, folder: &std::path::Path) -> anyhow::Result<Vec<String>> {
    disk::check_esp(disk, folder)?;
    let names = disk::entries(disk, folder)?;
    for slot in Slot::ALL {
        let of_slot = names.iter().filter(|name| name.trim_start_matches('.').starts_with(&format!("corten-{}", slot.name())));
        ensure!(of_slot.count() <= 1, "entries: {names:?}");
    }
    ensure!(names.iter().any(|name| !name.contains("+0")), "nothing to boot: {names:?}");
    Ok(names)
}

fn cuts(during: During, usual: u64) {
    seeds::each(usual, |seed| Cut::of(during, seed), Cut::happens);
}

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn power_cuts_during_upload() {
    cuts(During::Upload, 6);
}

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn power_cuts_during_start() {
    cuts(During::Start, 6);
}

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn power_cuts_during_trial() {
    cuts(During::Trial, 6);
}

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn power_cuts_during_rollback() {
    cuts(During::Rollback, 6);
}

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn power_cuts_during_apply_on_trial() {
    cuts(During::Apply, 6);
}
