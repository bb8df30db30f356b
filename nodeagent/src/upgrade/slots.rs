//! What is known of each slot's image, on STATE: which one it is, which config it ran with last, and of which chunks it consists.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use machine::disk::Slot;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::files;
use crate::state_record::{self, Unreadable, Versioned};

/// The directory: `<slot>.json`, and `<slot>.chunks` for its chunks.
#[derive(Debug, Clone)]
pub struct Slots {
    directory: PathBuf,
}

/// One slot's image. There is none while the slot is being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRecord {
    pub version: u32,
    pub slot: Slot,
    pub image_version: String,
    pub profile: String,
    /// `v1.37.1` and `v3.7.3`: of its Kubernetes and its etcd. Empty where it has none or nobody said; etcd's is known once it ran.
    #[serde(default)]
    pub kubernetes: String,
    #[serde(default)]
    pub etcd: String,
    /// dm-verity root hash, hex.
    pub root_hash: String,
    /// The config generation that it ran with last while it was known to be good; 0 for none.
    #[serde(default)]
    pub generation: u64,
}

impl Versioned for SlotRecord {
    const VERSION: u32 = 1;
}

impl SlotRecord {
    pub fn new(slot: Slot, image_version: &str, profile: &str, root_hash: &str) -> SlotRecord {
        SlotRecord {
            version: SlotRecord::VERSION,
            slot,
            image_version: image_version.to_owned(),
            profile: profile.to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            root_hash: root_hash.to_owned(),
            generation: 0,
        }
    }
}

impl Slots {
    pub fn new(directory: PathBuf) -> Slots {
        Slots { directory }
    }

    /// `None` for a slot of which nothing is known; a record that cannot be read is none, and told of in the log.
    pub fn get(&self, slot: Slot) -> Option<SlotRecord> {
        state_record::read(&self.record(slot)).unwrap_or_else(|error| {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            None
        })
    }

    /// Whether the slot's record is one that a newer release wrote.
    pub fn is_newer(&self, slot: Slot) -> bool {
        matches!(state_record::read::<SlotRecord>(&self.record(slot)), Err(Unreadable::Newer { .. }))
    }

    pub fn put(&self, record: &SlotRecord) -> anyhow::Result<()> {
        self.write(&format!("{}.json", record.slot.name()), record)
    }

    /// Forgets what the slot held, before it is written to.
    pub fn forget(&self, slot: Slot) -> anyhow::Result<()> {
        files::remove(&self.directory.join(format!("{}.json", slot.name())))?;
        files::remove(&self.directory.join(format!("{}.chunks", slot.name())))
    }

    /// The chunks of the image with this root hash, where they were noted.
    pub fn chunks<T: DeserializeOwned>(&self, slot: Slot, root_hash: &str) -> Option<T> {
        let noted: anyhow::Result<Option<Noted<T>>> = self.read(&format!("{}.chunks", slot.name()));
        noted.unwrap_or_default().filter(|noted| noted.root_hash == root_hash).map(|noted| noted.parts)
    }

    pub fn put_chunks<T: Serialize>(&self, slot: Slot, root_hash: &str, parts: &T) -> anyhow::Result<()> {
        self.write(&format!("{}.chunks", slot.name()), &Noted { root_hash: root_hash.to_owned(), parts })
    }

    fn record(&self, slot: Slot) -> PathBuf {
        self.directory.join(format!("{}.json", slot.name()))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.directory.join(name);
        let reading = || format!("reading {}", path.display());
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(reading),
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(reading),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        files::write(&self.directory.join(name), &serde_json::to_vec(value)?, 0o600)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Noted<T> {
    root_hash: String,
    parts: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let slots = Slots::new(directory.path().join("slots"));
        assert_eq!(slots.get(Slot::A), None);
        let record = SlotRecord { generation: 4, ..SlotRecord::new(Slot::A, "0.1.0", "worker", "ab") };
        slots.put(&record).unwrap();
        slots.put_chunks(Slot::A, "ab", &vec![1, 2]).unwrap();
        assert_eq!((slots.get(Slot::A), slots.get(Slot::B)), (Some(record.clone()), None));
        assert_eq!((slots.chunks(Slot::A, "ab"), slots.chunks::<Vec<i32>>(Slot::A, "cd")), (Some(vec![1, 2]), None));
        fs::write(directory.path().join("slots/b.json"), "{").unwrap();
        assert_eq!(slots.get(Slot::B), None, "damaged");
        slots.put(&SlotRecord { version: SlotRecord::VERSION + 1, slot: Slot::B, ..record }).unwrap();
        assert_eq!((slots.get(Slot::B), slots.is_newer(Slot::B)), (None, true), "of a later release");
        assert!(!slots.is_newer(Slot::A));
        slots.forget(Slot::A).unwrap();
        assert_eq!((slots.get(Slot::A), slots.chunks::<Vec<i32>>(Slot::A, "ab")), (None, None));
    }
}
