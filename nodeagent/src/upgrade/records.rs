//! What came of each upgrade and rollback: one record each on STATE, which both slots read.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use machine::disk::Slot;
pub use machine::upgrade::Kind;
use serde::{Deserialize, Serialize};

use super::phase::{Event, Phase, next};
use crate::files;
use crate::state_record::{self, Versioned};

/// Records kept.
const KEPT: usize = 16;

/// The directory of records: `<number>.json`.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    pub number: u64,
    pub kind: Kind,
    pub from_version: String,
    pub to_version: String,
    /// Kubernetes and etcd of the image that is left, such as `v1.37.1` and `v3.7.3`; empty where it has none, or its release did not say.
    /// While the new image is on trial it does nothing that they could not undo.
    #[serde(default)]
    pub from_kubernetes: String,
    #[serde(default)]
    pub from_etcd: String,
    /// Of a rollback: etcd of the image that is gone back to, where that is known.
    #[serde(default)]
    pub to_etcd: String,
    pub from_slot: Slot,
    pub to_slot: Slot,
    /// dm-verity root hash of what the slot holds, hex.
    pub to_root_hash: String,
    /// SHA-256 of the update's manifest, hex; empty for a rollback.
    #[serde(default)]
    pub update: String,
    /// The config generation that the machine goes back to if it falls back; 0 before it is known, and without a config.
    #[serde(default)]
    pub generation: u64,
    /// Of a rollback: the config generation that is put in force when the slot boots; 0 for none.
    #[serde(default)]
    pub restore: u64,
    /// Seconds since the epoch.
    pub started_at: u64,
    /// The caller's identity.
    pub started_by: String,
    pub phase: Phase,
    /// Boots of the new slot so far.
    #[serde(default)]
    pub boots: u32,
    /// The boot in which `phase` was written last: of this boot, or of one before.
    #[serde(default)]
    pub boot_id: String,
    /// Whether an API server of the cluster answered when the upgrade was started. The health gate does not hold a cluster that was away
    /// before against the image.
    #[serde(default)]
    pub cluster_reachable_before: bool,
    /// Bytes that were written to the slot: of blocks that differed from what was there, of root, verity and UKI. What was written before a
    /// power cut may be missing in it.
    #[serde(default)]
    pub written_bytes: u64,
    /// Whether the caller had etcd's data not saved first.
    #[serde(default)]
    pub without_snapshot: bool,
    /// Whether no pod could start on this machine when the upgrade was started: the health gate does not hold that against the image either.
    #[serde(default)]
    pub pods_failed_before: bool,
    /// Nodes that answered through the overlay when the upgrade was started: they have to answer the new image as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlay_peers_before: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Seconds since the epoch; 0 while it goes on.
    #[serde(default)]
    pub ended_at: u64,
}

/// Why an image was not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reason {
    /// The check that did not pass; `boot` where the agent of the new image never came to say one.
    pub check: String,
    /// Its last error.
    pub message: String,
    /// Last lines of the log that tells most.
    pub log_tail: Vec<String>,
}

impl Versioned for Record {
    /// Fields that are added have a default, so that the release before, which is what a machine falls back to, still reads the record.
    const VERSION: u32 = 1;
}

impl Record {
    /// Takes the record to the phase that follows; says whether that is another one.
    pub fn happened(&mut self, event: Event) -> bool {
        let before = self.phase;
        self.phase = next(before, event);
        self.phase != before
    }

    /// What happened and when it was over.
    pub fn ended(&mut self, event: Event, now: u64) {
        if self.happened(event) && self.phase.is_over() {
            self.ended_at = now;
        }
    }
}

impl Records {
    pub fn new(directory: PathBuf) -> Records {
        Records { directory }
    }

    /// All that can be read, oldest first. One that is damaged, or of a later release, is left out and told of in the log.
    pub fn list(&self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        for number in self.numbers()? {
            match self.read(number) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        Ok(records)
    }

    /// The newest one, if it is not over.
    pub fn current(&self) -> anyhow::Result<Option<Record>> {
        Ok(self.list()?.pop().filter(|record| !record.phase.is_over()))
    }

    /// Number of the next record.
    pub fn next_number(&self) -> anyhow::Result<u64> {
        Ok(self.numbers()?.last().map_or(1, |last| last + 1))
    }

    /// Writes the record, and removes the oldest beyond [`KEPT`].
    pub fn put(&self, record: &Record) -> anyhow::Result<()> {
        let record = Record { version: Record::VERSION, ..record.clone() };
        files::write(&self.path(record.number), &serde_json::to_vec_pretty(&record)?, 0o600)?;
        let numbers = self.numbers()?;
        for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
            files::remove(&self.path(*number))?;
        }
        Ok(())
    }

    fn numbers(&self) -> anyhow::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("reading {}", self.directory.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut numbers: Vec<u64> = names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u64) -> anyhow::Result<Record> {
        let path = self.path(number);
        Ok(state_record::require(&path)?)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::record;
    use super::*;

    #[test]
    fn kept_read_and_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().join("upgrades"));
        assert_eq!((records.list().unwrap(), records.current().unwrap(), records.next_number().unwrap()), (Vec::new(), None, 1));
        for number in 1..=20 {
            records.put(&record(number)).unwrap();
        }
        assert_eq!(records.list().unwrap().iter().map(|record| record.number).collect::<Vec<_>>(), (5..=20).collect::<Vec<_>>());
        assert_eq!(records.current().unwrap(), Some(record(20)));
        let mut over = record(20);
        over.ended(Event::Replaced, 7);
        assert_eq!((over.phase, over.ended_at), (Phase::Cancelled, 7));
        records.put(&over).unwrap();
        assert_eq!((records.current().unwrap(), records.next_number().unwrap()), (None, 21));
    }

    /// What lies on the STATE of machines in the field is read by every later release, and fields that were added may be missing.
    #[test]
    fn version_one_stays_readable() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().to_owned());
        let mut failed = record(1);
        failed.reason =
            Some(Reason { check: "kubelet".to_owned(), message: "it does not run".to_owned(), log_tail: vec!["last".to_owned()] });
        crate::golden::check("src/upgrade/golden/record.json", &(serde_json::to_string_pretty(&failed).unwrap() + "\n"));
        let oldest = r#"{ "version": 1, "number": 4, "kind": "rollback", "fromVersion": "1", "toVersion": "2", "fromSlot": "b", "toSlot": "a",
            "toRootHash": "", "startedAt": 1, "startedBy": "", "phase": "proving", "laterField": {} }"#;
        fs::write(directory.path().join("4.json"), oldest).unwrap();
        assert_eq!(records.current().unwrap().map(|record| (record.number, record.phase)), Some((4, Phase::Proving)));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().to_owned());
        records.put(&record(1)).unwrap();
        fs::write(directory.path().join("2.json"), "{").unwrap();
        fs::write(directory.path().join("3.json"), serde_json::to_string(&Record { version: 9, ..record(3) }).unwrap()).unwrap();
        assert_eq!(records.list().unwrap(), [record(1)]);
        assert_eq!(records.next_number().unwrap(), 4, "their numbers are not used again");
    }
}
