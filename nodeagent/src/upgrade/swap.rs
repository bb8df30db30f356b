//! The two slots as the agent acts on them: settles what became of an upgrade, blesses the running image, or gives it up. Everything blocks,
//! and every step may be cut and done again.

use machine::Root;
use machine::disk::Slot;
use machine::protocol::{BootFacts, ImageFacts};

use super::disk::Disk;
use super::esp::{Entry, Esp, current};
use super::last_words;
use super::phase::{Event, Phase};
use super::records::{Reason, Record, Records};
use super::settle::{Seen, Verdict, decide};
use super::slots::{SlotRecord, Slots};
use crate::clock::wall_seconds;
use crate::config::{Current, Generations};
use crate::failpoint::Failpoints;
use crate::resources::upgrade::SlotStatus;

#[derive(Debug, Clone)]
pub struct Swap {
    pub root: Root,
    pub disk: Disk,
    pub esp: Esp,
    pub records: Records,
    pub slots: Slots,
    pub running: Slot,
    pub boot_id: String,
    /// dm-verity root hash of the running root, hex.
    pub root_hash: String,
    pub image: ImageFacts,
    /// Whether the boot loader counted when this boot began.
    counted_at_boot: bool,
    pub failpoints: Failpoints,
}

/// What a machine that was not booted from a slot of its disk lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSlots(pub String);

impl Swap {
    pub fn new(root: &Root, facts: &BootFacts, image: Option<ImageFacts>, failpoints: Failpoints) -> Result<Swap, NoSlots> {
        let Some(running) = facts.slot.filter(|_| !facts.disk.is_empty()) else {
            return Err(NoSlots("the machine was not booted from a slot of its disk".to_owned()));
        };
        let image = image.ok_or_else(|| NoSlots("the running image does not say what it is".to_owned()))?;
        let disk = Disk::new(root, &facts.disk);
        let esp = disk.esp(failpoints.clone()).map_err(|error| NoSlots(format!("{error:#}")))?;
        Ok(Swap {
            root: root.clone(),
            disk,
            esp,
            records: Records::new(root.upgrade_records()),
            slots: Slots::new(root.slot_records()),
            running,
            boot_id: facts.boot_id.clone(),
            root_hash: facts.root_hash.clone(),
            image,
            counted_at_boot: facts.counted,
            failpoints,
        })
    }

    pub fn other(&self) -> Slot {
        match self.running {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// Whether the running image is still to prove itself.
    pub fn on_trial(&self, entries: &[Entry]) -> bool {
        self.counted_at_boot && !current(entries, self.running).is_some_and(Entry::blessed)
    }

    /// Brings records, entries and the config generation in line with what runs. Once, before the machine config is read; what is told is
    /// for people.
    pub fn settle(&self) -> anyhow::Result<Vec<String>> {
        // On trial nothing of the other slot is touched.
        self.esp.tidy(self.running)?;
        let mut entries = self.esp.entries()?;
        let counted = self.on_trial(&entries);
        if !counted {
            self.esp.tidy(self.other())?;
            if current(&entries, self.running).is_none() {
                // A repair of the file system took the entry of the image that runs: without it the other slot would be all there is to boot.
                self.esp.bless(self.running, &self.image.version, &self.image.profile)?;
            }
            entries = self.esp.entries()?;
        }
        self.note_running_image()?;
        let record = self.records.list()?.pop();
        let entry = record.as_ref().and_then(|record| current(&entries, record.to_slot)).cloned();
        let seen = Seen { running: self.running, root_hash: self.root_hash.clone(), counted, record: record.clone(), entry };
        let (Some(record), verdict) = (record, decide(&seen)) else { return Ok(Vec::new()) };
        self.carry_out(verdict, record)
    }

    fn carry_out(&self, verdict: Verdict, mut record: Record) -> anyhow::Result<Vec<String>> {
        let what = format!("{} to {}", record.kind.name(), record.to_version);
        match verdict {
            Verdict::Nothing if record.phase == Phase::Failed && record.to_slot != self.running => Ok(vec![failure(&what, &record)]),
            Verdict::Nothing | Verdict::Staged => Ok(Vec::new()),
            Verdict::Resumable => {
                record.happened(Event::Resumed);
                self.records.put(&record)?;
                Ok(vec![format!("{what} was interrupted; offer the update again to go on with it")])
            }
            Verdict::NeverBegun => {
                record.ended(Event::Replaced, wall_seconds());
                self.records.put(&record)?;
                Ok(vec![format!("{what} was interrupted before anything was changed")])
            }
            Verdict::Arrived => {
                let first = record.phase != Phase::Proving;
                if first {
                    self.pin_again(&mut record)?;
                    self.use_generation(record.restore)?;
                    self.failpoints.reach("settle::generation-restored")?;
                }
                record.happened(Event::Arrived);
                if first || record.boot_id != self.boot_id {
                    record.boots += 1;
                }
                record.boot_id = self.boot_id.clone();
                self.records.put(&record)?;
                self.failpoints.reach("settle::arrived")?;
                Ok(vec![format!("{what}: boot {} of the new image, on trial", record.boots)])
            }
            Verdict::Blessed => {
                self.finish(record)?;
                Ok(vec![format!("{what} is done")])
            }
            Verdict::FellBack { boots } => {
                record.boots = record.boots.max(boots);
                let reason = record.reason.take();
                record.reason = Some(reason.unwrap_or_else(|| self.silent_end(record.boots)));
                self.give_up(&mut record)?;
                Ok(vec![failure(&what, &record)])
            }
        }
    }

    /// The running image is good: the boot loader counts no more, and the config that it runs with is the one that it gets back.
    pub fn bless(&self, generation: u64) -> anyhow::Result<Option<Record>> {
        self.esp.bless(self.running, &self.image.version, &self.image.profile)?;
        self.slots.put(&SlotRecord { generation, ..self.describe_running() })?;
        self.failpoints.reach("bless::slot-noted")?;
        match self.proving()? {
            Some(record) => self.finish(record).map(Some),
            None => Ok(None),
        }
    }

    /// The running image, on trial, is not good: why, no more tries, and the config of before. The caller reboots.
    pub fn fail(&self, reason: Reason) -> anyhow::Result<Option<Record>> {
        let Some(mut record) = self.proving()? else {
            self.esp.condemn(self.running)?;
            return Ok(None);
        };
        // The reason first: whatever is cut off now, the next boot can say it.
        record.reason = Some(reason);
        self.records.put(&record)?;
        self.failpoints.reach("fail::reason-noted")?;
        self.give_up(&mut record)?;
        Ok(Some(record))
    }

    /// The record of the image that proves itself in this boot.
    pub fn proving(&self) -> anyhow::Result<Option<Record>> {
        Ok(self.records.current()?.filter(|record| record.phase == Phase::Proving && record.to_slot == self.running))
    }

    /// The config generation that is in force after a reboot; 0 without a config.
    pub fn lasting_generation(&self) -> u64 {
        let current = Generations::new(self.root.config_directory()).current().ok().flatten();
        current.map_or(0, |current| current.trial.map_or(current.generation, |trial| trial.fallback))
    }

    /// What users see of both slots.
    pub fn statuses(&self) -> anyhow::Result<Vec<SlotStatus>> {
        let entries = self.esp.entries()?;
        Ok(Slot::ALL.into_iter().map(|slot| self.status(slot, &entries)).collect())
    }

    fn status(&self, slot: Slot, entries: &[Entry]) -> SlotStatus {
        let (record, entry) = (self.slots.get(slot), current(entries, slot));
        // A slot whose record was lost with STATE still says what it is at the boot loader's menu.
        let shown = entry.and_then(Entry::image).map(|(version, profile)| (version.to_owned(), profile.to_owned()));
        let record = record.unwrap_or_else(|| {
            let (version, profile) = shown.unwrap_or_default();
            SlotRecord::new(slot, &version, &profile, "")
        });
        SlotStatus {
            slot,
            running: slot == self.running,
            version: record.image_version,
            profile: record.profile,
            kubernetes: record.kubernetes,
            root_hash: record.root_hash,
            entry: entry.map(|entry| entry.file_name.clone()).unwrap_or_default(),
            sequence: entry.map_or(0, |entry| entry.sequence),
            blessed: entry.is_some_and(Entry::blessed),
            tries_left: entry.and_then(|entry| entry.tries).map(|tries| tries.left),
            generation: record.generation,
        }
    }

    fn finish(&self, mut record: Record) -> anyhow::Result<Record> {
        record.ended(Event::Blessed, wall_seconds());
        record.reason = None;
        self.records.put(&record)?;
        self.failpoints.reach("bless::recorded")?;
        Ok(record)
    }

    fn give_up(&self, record: &mut Record) -> anyhow::Result<()> {
        let entries = self.esp.entries()?;
        if current(&entries, record.to_slot).is_some_and(|entry| entry.tries.is_some()) {
            self.esp.condemn(record.to_slot)?;
        }
        self.failpoints.reach("fail::condemned")?;
        self.use_generation(record.generation)?;
        self.failpoints.reach("fail::generation-restored")?;
        record.ended(Event::FellBack, wall_seconds());
        self.records.put(record)?;
        Ok(self.failpoints.reach("fail::recorded")?)
    }

    /// Puts a kept generation in force for the next time that the config is read; 0 and one that is gone change nothing.
    fn use_generation(&self, generation: u64) -> anyhow::Result<()> {
        let generations = Generations::new(self.root.config_directory()).with_failpoints(self.failpoints.clone());
        if generation == 0 || generations.current().ok().flatten() == Some(Current::lasting(generation)) {
            return Ok(());
        }
        if !generations.numbers()?.contains(&generation) {
            tracing::warn!("config generation {generation} is not kept any more: the config stays as it is");
            return Ok(());
        }
        generations.point(&Current::lasting(generation))
    }

    /// What is gone back to is the config that the old image ran with last: a staged upgrade may have waited for days. A cut may have come after
    /// the rollback's own generation was put in force, which is not that one.
    fn pin_again(&self, record: &mut Record) -> anyhow::Result<()> {
        let lasting = self.lasting_generation();
        if lasting == record.restore || lasting == record.generation {
            return Ok(());
        }
        // The record last: it is what says that this is done.
        if let Some(from) = self.slots.get(record.from_slot) {
            self.slots.put(&SlotRecord { generation: lasting, ..from })?;
        }
        self.failpoints.reach("settle::slot-pinned-again")?;
        record.generation = lasting;
        self.records.put(record)?;
        Ok(self.failpoints.reach("settle::pinned-again")?)
    }

    /// The first image of a disk has no record: it says itself what it is.
    fn note_running_image(&self) -> anyhow::Result<()> {
        let known = self.slots.get(self.running);
        if known.as_ref().is_some_and(|known| known.root_hash == self.root_hash) {
            return Ok(());
        }
        // It may say more than this image knows, and who wrote it may come back.
        if self.slots.is_newer(self.running) {
            return Ok(());
        }
        self.slots.put(&self.describe_running())
    }

    fn describe_running(&self) -> SlotRecord {
        SlotRecord {
            kubernetes: self.image.kubernetes.clone(),
            etcd: self.image.etcd.clone(),
            ..SlotRecord::new(self.running, &self.image.version, &self.image.profile, &self.root_hash)
        }
    }

    /// What can be said of an image whose agent said nothing.
    fn silent_end(&self, boots: u32) -> Reason {
        let count = if boots == 1 { "1 boot".to_owned() } else { format!("{boots} boots") };
        let said = last_words::since(&self.root, self.running);
        let message = format!("the new image did not come up: {count}, {}", said.ending);
        Reason { check: "boot".to_owned(), message, log_tail: said.log_tail }
    }
}

fn failure(what: &str, record: &Record) -> String {
    let reason = record.reason.clone().unwrap_or_default();
    format!("{what} failed: {}: {}; the machine runs {} again", reason.check, reason.message, record.from_version)
}
