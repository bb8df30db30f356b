//! What containers have written into file systems of their own, as the container runtime counts it, under cAdvisor's names.
//!
//! The kernel counts it nowhere: somebody has to walk the files, which the runtime does by itself every few seconds.

use std::collections::HashMap;

use crate::collector::Snapshot;
use crate::names::Names;
use crate::open_metrics::text::Kind;
use crate::open_metrics::{Text, labels_of};

/// What a container has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The container's id.
    pub container: String,
    pub bytes: u64,
    /// Of the file system that it lies on; none where that is not known.
    pub on: Option<Capacity>,
}

/// How much a file system takes, for all that is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub bytes: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

type Value = fn(&Written) -> Option<u64>;

const FAMILIES: [(&str, &str, Value); 4] = [
    ("container_fs_usage_bytes", "Bytes that the container has written into its own file system", |written| Some(written.bytes)),
    ("container_fs_limit_bytes", "Bytes that the file system takes on which that lies", |written| Some(written.on?.bytes)),
    ("container_fs_inodes_total", "Inodes of the file system on which that lies", |written| Some(written.on?.inodes)),
    ("container_fs_inodes_free", "Inodes of it that are not in use", |written| Some(written.on?.free_inodes)),
];

/// Of the containers that the snapshot has, with their labels there.
pub fn render(written: &[Written], snapshot: &Snapshot, names: &Names, into: &mut Text) {
    let by_container: HashMap<&str, &Written> = written.iter().map(|written| (&*written.container, written)).collect();
    let told = snapshot.groups.iter().filter_map(|reading| {
        let written = by_container.get(names.of(&reading.place).id)?;
        Some((format!("{},device=\"\"", labels_of(reading, names)), *written))
    });
    let told: Vec<(String, &Written)> = told.collect();
    for (name, help, value) in FAMILIES {
        let mut samples = told.iter().filter_map(|(labels, written)| Some((labels, value(written)?))).peekable();
        if samples.peek().is_some() {
            into.family(name, Kind::Gauge, help);
        }
        samples.for_each(|(labels, value)| into.sample(labels, value as f64));
    }
}
