//! Config generations on STATE: `<number>.yaml` is a document, `<number>.json` its record, `current` names the one in force.
//!
//! A generation counts once `current` names it: a power cut before leaves the one before in force. Records carry a version, because the
//! slot before this one may read them again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::reading::digest;
use crate::failpoint::Failpoints;
use crate::files;
use crate::state_record::{self, Versioned};

/// Generations kept, the current one included.
const KEPT: usize = 16;

/// The directory of generations.
#[derive(Debug, Clone)]
pub struct Generations {
    directory: PathBuf,
    failpoints: Failpoints,
}

/// What is known of a generation besides its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    pub number: u64,
    /// Seconds since the epoch.
    pub applied_at: u64,
    /// Subject of the certificate that applied it; empty in maintenance.
    pub applied_by: String,
    /// SHA-256 of the document, hex.
    pub digest: String,
}

/// Which generation is in force, and whether it is only tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    version: u32,
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A config that goes away by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// The generation to go back to.
    pub fallback: u64,
    /// The boot in which it is tried; the next one goes back.
    pub boot_id: String,
    pub deadline_since_boot_milliseconds: u64,
    /// By the wall clock, in seconds since the epoch: for people.
    pub revert_at: u64,
}

impl Versioned for Record {
    const VERSION: u32 = 1;
}

impl Versioned for Current {
    const VERSION: u32 = 1;
}

impl Current {
    pub fn lasting(generation: u64) -> Current {
        Current::tried(generation, None)
    }

    /// Without a trial it lasts.
    pub fn tried(generation: u64, trial: Option<Trial>) -> Current {
        Current { version: Current::VERSION, generation, trial }
    }
}

impl Trial {
    pub fn deadline_since_boot(&self) -> Duration {
        Duration::from_millis(self.deadline_since_boot_milliseconds)
    }
}

impl Generations {
    pub fn new(directory: PathBuf) -> Generations {
        Generations { directory, failpoints: Failpoints::default() }
    }

    /// Cuts changes where a test says so.
    pub fn with_failpoints(self, failpoints: Failpoints) -> Generations {
        Generations { failpoints, ..self }
    }

    pub fn has_current(&self) -> bool {
        self.directory.join("current").exists()
    }

    /// `None` before the first config; an error where `current` cannot be read or understood.
    pub fn current(&self) -> anyhow::Result<Option<Current>> {
        Ok(state_record::read(&self.directory.join("current"))?)
    }

    /// Numbers of all generations.
    pub fn numbers(&self) -> anyhow::Result<BTreeSet<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.with_context(|| self.place())?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// A generation's document; an error if it is not what was applied.
    pub fn document(&self, number: u64) -> anyhow::Result<String> {
        let record = self.record(number)?;
        let path = self.directory.join(format!("{number}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(digest(&text) == record.digest, "{}: its SHA-256 is not the one in its record", path.display());
        Ok(text)
    }

    /// The records that can be read, oldest first.
    pub fn list(&self) -> anyhow::Result<Vec<Record>> {
        Ok(self.numbers()?.into_iter().filter_map(|number| self.record(number).ok()).collect())
    }

    /// Writes a new generation, not yet in force; its number.
    pub fn add(&self, document: &str, by: &str, now: u64) -> anyhow::Result<u64> {
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        let record = Record { version: Record::VERSION, number, applied_at: now, applied_by: by.to_owned(), digest: digest(document) };
        self.write(&format!("{number}.yaml"), document.as_bytes())?;
        self.failpoints.reach("config::document-written")?;
        self.write(&format!("{number}.json"), &serde_json::to_vec_pretty(&record)?)?;
        self.failpoints.reach("config::record-written")?;
        Ok(number)
    }

    /// Names the generation in force.
    pub fn point(&self, current: &Current) -> anyhow::Result<()> {
        self.write("current", &serde_json::to_vec_pretty(current)?)?;
        Ok(self.failpoints.reach("config::pointed")?)
    }

    /// Removes the oldest generations beyond [`KEPT`], never the current one, the one that a trial goes back to, nor a pinned one.
    pub fn prune(&self, pinned: &BTreeSet<u64>) -> anyhow::Result<()> {
        let Some(current) = self.current()? else { return Ok(()) };
        let numbers = self.numbers()?;
        let surplus = numbers.len().saturating_sub(KEPT);
        let tried_over = current.trial.as_ref().map(|trial| trial.fallback);
        let needed = |number: u64| number == current.generation || Some(number) == tried_over || pinned.contains(&number);
        for number in numbers.into_iter().take(surplus).filter(|number| !needed(*number)) {
            files::remove(&self.directory.join(format!("{number}.json")))?;
            self.failpoints.reach("config::record-removed")?;
            files::remove(&self.directory.join(format!("{number}.yaml")))?;
        }
        Ok(())
    }

    fn record(&self, number: u64) -> anyhow::Result<Record> {
        Ok(state_record::require(&self.directory.join(format!("{number}.json")))?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        files::write(&self.directory.join(name), bytes, 0o600)
    }

    fn place(&self) -> String {
        self.directory.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: u64) -> (tempfile::TempDir, Generations) {
        let directory = tempfile::tempdir().unwrap();
        let generations = Generations::new(directory.path().join("config"));
        for number in 1..=count {
            assert_eq!(generations.add(&format!("document {number}"), "os:admin/alice", 1000 + number).unwrap(), number);
            generations.point(&Current::lasting(number)).unwrap();
            generations.prune(&BTreeSet::new()).unwrap();
        }
        (directory, generations)
    }

    #[test]
    fn what_was_added_is_read_back() {
        let (_directory, generations) = with(2);
        assert_eq!(generations.current().unwrap(), Some(Current::lasting(2)));
        assert_eq!(generations.document(1).unwrap(), "document 1");
        let record = &generations.list().unwrap()[1];
        assert_eq!((record.number, record.applied_at, record.applied_by.as_str()), (2, 1002, "os:admin/alice"));
    }

    #[test]
    fn the_oldest_go_and_the_needed_stay() {
        let (_directory, generations) = with(2);
        let trial = Trial { fallback: 1, boot_id: "b".to_owned(), deadline_since_boot_milliseconds: 1, revert_at: 1 };
        for number in 3..40 {
            generations.add("x", "", 0).unwrap();
            generations.point(&Current::tried(number, Some(trial.clone()))).unwrap();
            generations.prune(&BTreeSet::from([2])).unwrap();
        }
        let numbers = generations.numbers().unwrap();
        assert!([1, 2, 39].iter().all(|number| numbers.contains(number)), "{numbers:?}");
        assert!(numbers.len() <= KEPT + 2, "{numbers:?}");
    }

    #[test]
    fn a_cut_in_each_write_leaves_the_generation_before() {
        // What a power cut may leave of the third generation: temporary files cut short, and the files that were renamed before it.
        for renamed in [&[][..], &["3.yaml"], &["3.yaml", "3.json"]] {
            let (_directory, generations) = with(2);
            let directory = generations.directory.clone();
            for name in ["3.yaml", "3.json", "current"] {
                fs::write(directory.join(format!(".{name}.new")), b"{\"vers").unwrap();
            }
            for name in renamed {
                fs::rename(directory.join(format!(".{name}.new")), directory.join(name)).unwrap();
            }
            assert_eq!(generations.current().unwrap(), Some(Current::lasting(2)));
            assert_eq!(generations.document(2).unwrap(), "document 2");
            let next = generations.add("document 3", "", 0).unwrap();
            generations.point(&Current::lasting(next)).unwrap();
            assert_eq!(generations.document(next).unwrap(), "document 3");
        }
    }

    #[test]
    fn what_was_changed_behind_our_back_is_refused() {
        let (_directory, generations) = with(1);
        fs::write(generations.directory.join("1.yaml"), "document 2").unwrap();
        assert!(generations.document(1).unwrap_err().to_string().contains("SHA-256"));
        fs::write(generations.directory.join("current"), "{").unwrap();
        assert!(generations.current().is_err());
        fs::write(generations.directory.join("current"), r#"{"version": 2, "generation": 1}"#).unwrap();
        assert!(generations.current().unwrap_err().to_string().contains("version 2"));
    }
}
