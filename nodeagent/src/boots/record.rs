//! What is kept of each boot: one record on STATE, which every image and both slots read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use machine::disk::Slot;
use machine::protocol::PowerAction;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::state_record::{self, Versioned};

/// Records kept.
pub const KEPT: usize = 16;
/// Largest record on the disk: all of them take a megabyte of STATE at most.
pub const MAX_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    pub number: u64,
    /// The kernel's name of the boot; empty for one whose agent never came up.
    pub boot_id: String,
    #[serde(default)]
    pub slot: Option<Slot>,
    /// Of the image: `0.1.0`.
    #[serde(default)]
    pub image_version: String,
    /// When the agent came up, in seconds since the epoch; 0 if it never did.
    #[serde(default)]
    pub started_at: u64,
    /// When this record was written last while the boot went on: a boot that was cut short ended after that.
    #[serde(default)]
    pub seen_at: u64,
    /// 0 while it goes on, and where nobody knows.
    #[serde(default)]
    pub ended_at: u64,
    /// None while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Services as they were seen last.
    #[serde(default)]
    pub services: Vec<ServiceSeen>,
    /// Last lines of the kernel's log, as of the last time that they were kept: when a service failed, and at the end.
    #[serde(default)]
    pub kernel_log_tail: String,
    /// What the kernel left in the firmware or in memory when it crashed.
    #[serde(default)]
    pub crash_log: String,
}

impl Versioned for Record {
    /// Fields that are added have a default.
    const VERSION: u32 = 1;
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "how")]
pub enum Ending {
    /// init stopped everything and said why.
    Ordered { action: PowerAction, reason: String },
    /// The kernel's last words.
    Crashed { panic: String },
    /// The hardware watchdog reset the machine.
    Watchdog,
    /// A power cut, a reset, or a crash that left no trace.
    Unknown,
}

impl Ending {
    /// The word that users see.
    pub fn word(&self) -> &'static str {
        match self {
            Ending::Ordered { .. } => "ordered",
            Ending::Crashed { .. } => "crashed",
            Ending::Watchdog => "watchdog",
            Ending::Unknown => "unknown",
        }
    }

    /// Why, in words.
    pub fn reason(&self) -> String {
        match self {
            Ending::Ordered { action: PowerAction::Reboot, reason } => format!("reboot: {reason}"),
            Ending::Ordered { action: PowerAction::PowerOff, reason } => format!("power off: {reason}"),
            Ending::Crashed { panic } => panic.clone(),
            Ending::Watchdog => "the watchdog reset the machine: it hung".to_owned(),
            Ending::Unknown => "a power cut, a reset, or a crash that left no trace".to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSeen {
    pub id: String,
    /// As in `machinectl get services`.
    pub state: String,
    #[serde(default)]
    pub restarts: u32,
    /// How its process ended last; empty if it never did.
    #[serde(default)]
    pub last_exit: String,
}

/// The directory of records: `<number>.json`.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    pub fn new(directory: PathBuf) -> Records {
        Records { directory }
    }

    /// All that can be read, oldest first. One that is damaged, or of a later release, is left out and told of in the log.
    pub fn list(&self) -> anyhow::Result<Vec<Record>> {
        let read = |number| self.read(number).inspect_err(|error| tracing::warn!("{error:#}")).ok();
        Ok(self.numbers()?.into_iter().filter_map(read).collect())
    }

    /// Number of the next record.
    pub fn next_number(&self) -> anyhow::Result<u64> {
        Ok(self.numbers()?.last().map_or(1, |last| last + 1))
    }

    /// Writes the record, cut to its size, and removes the oldest beyond [`KEPT`].
    pub fn put(&self, record: &Record) -> anyhow::Result<()> {
        files::write(&self.path(record.number), &bounded(record.clone())?, 0o600)?;
        let numbers = self.numbers()?;
        for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
            files::remove(&self.path(*number))?;
        }
        Ok(())
    }

    fn numbers(&self) -> anyhow::Result<BTreeSet<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.with_context(|| format!("reading {}", self.directory.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    fn read(&self, number: u64) -> anyhow::Result<Record> {
        let path = self.path(number);
        Ok(state_record::require(&path)?)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number}.json"))
    }
}

/// The record's JSON. What makes it too long goes: the older half of the longer log, again and again.
fn bounded(mut record: Record) -> anyhow::Result<Vec<u8>> {
    record.version = Record::VERSION;
    loop {
        let json = serde_json::to_vec_pretty(&record)?;
        if json.len() <= MAX_BYTES {
            return Ok(json);
        }
        let Record { kernel_log_tail, crash_log, services, .. } = &mut record;
        let longer = if kernel_log_tail.len() >= crash_log.len() { kernel_log_tail } else { crash_log };
        ensure!(!longer.is_empty() || !services.is_empty(), "the record has {} bytes; expected at most {MAX_BYTES}", json.len());
        if longer.is_empty() {
            services.truncate(services.len() / 2);
        }
        *longer = last_bytes(longer, longer.len() / 2);
    }
}

/// The end of a text, from a line's beginning on where there is one.
pub fn last_bytes(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut from = text.len() - bytes;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    end.split_once('\n').filter(|(_, rest)| !rest.is_empty()).map_or(end, |(_, rest)| rest).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(number: u64) -> Record {
        Record {
            version: Record::VERSION,
            number,
            boot_id: format!("boot {number}"),
            slot: Some(Slot::B),
            image_version: "0.1.0".to_owned(),
            started_at: 1_790_000_000,
            seen_at: 1_790_000_060,
            ended_at: 1_790_000_100,
            ending: Some(Ending::Ordered { action: PowerAction::Reboot, reason: "upgrade".to_owned() }),
            services: vec![ServiceSeen { id: "etcd".to_owned(), state: "ready".to_owned(), restarts: 1, last_exit: "signal 9".to_owned() }],
            kernel_log_tail: "[    1.000000] one\n".to_owned(),
            crash_log: String::new(),
        }
    }

    #[test]
    fn kept_read_and_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().join("boots"));
        assert_eq!((records.list().unwrap(), records.next_number().unwrap()), (Vec::new(), 1));
        for number in 1..=20 {
            records.put(&record(number)).unwrap();
        }
        fs::write(directory.path().join("boots/last-shutdown.json"), "{}").unwrap();
        assert_eq!(records.list().unwrap(), (5..=20).map(record).collect::<Vec<_>>());
        assert_eq!(records.next_number().unwrap(), 21);
    }

    /// What lies on the STATE of machines in the field is read by every later release, and fields that were added may be missing.
    #[test]
    fn version_one_stays_readable() {
        let text = serde_json::to_string_pretty(&record(1)).unwrap() + "\n";
        crate::golden::check("src/boots/golden/record.json", &text);
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().to_owned());
        fs::write(directory.path().join("1.json"), text).unwrap();
        let oldest = r#"{ "version": 1, "number": 2, "bootId": "b", "ending": { "how": "crashed", "panic": "x" }, "laterField": {} }"#;
        fs::write(directory.path().join("2.json"), oldest).unwrap();
        fs::write(directory.path().join("3.json"), "{").unwrap();
        fs::write(directory.path().join("4.json"), oldest.replace("\"version\": 1", "\"version\": 9")).unwrap();
        let second = Record {
            version: 1,
            number: 2,
            boot_id: "b".to_owned(),
            ending: Some(Ending::Crashed { panic: "x".to_owned() }),
            ..Record::default()
        };
        assert_eq!(records.list().unwrap(), [record(1), second]);
        assert_eq!(records.next_number().unwrap(), 5, "their numbers are not used again");
    }

    #[test]
    fn the_end_of_a_text() {
        assert_eq!(last_bytes("one\ntwo\nthree\n", 9), "three\n");
        assert_eq!(last_bytes("one\ntwo", 7), "one\ntwo");
        assert_eq!(last_bytes("aaaa", 2), "aa");
        assert_eq!(last_bytes("äöü", 3), "ü");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_record_is_too_long(kernel in 0_usize..200_000, crash in 0_usize..200_000, services in 0_usize..2000, byte in "[a\u{1b}ä\n]") {
            let service = record(1).services[0].clone();
            let long = Record { kernel_log_tail: byte.repeat(kernel), crash_log: byte.repeat(crash), services: vec![service; services], ..record(1) };
            let json = bounded(long).unwrap();
            prop_assert!(json.len() <= MAX_BYTES);
            prop_assert_eq!(serde_json::from_slice::<Record>(&json).unwrap().number, 1);
        }
    }
}
