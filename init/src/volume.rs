//! The volumes STATE, ETCD and EPHEMERAL: file systems on the disk that was booted. All are opened in one way, so that encryption can
//! come between partition and file system later.

pub mod ext4;
pub mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;

use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};

use crate::block::{self, Node};
use crate::gpt::table::Table;
use state::State;

/// A volume as init knows it.
#[derive(Debug, Clone)]
pub struct Place {
    pub state: State,
    pub device: PathBuf,
    pub size_bytes: u64,
    /// Why it is broken.
    pub reason: String,
    /// Requests that are answered once it is open or cannot be.
    pub waiting: Vec<crate::server::Ticket>,
}

impl Default for Place {
    fn default() -> Place {
        Place { state: State::Missing, device: PathBuf::new(), size_bytes: 0, reason: String::new(), waiting: Vec::new() }
    }
}

/// All volumes. What is not on the disk is there as `Missing`.
#[derive(Debug, Default)]
pub struct Volumes(BTreeMap<Volume, Place>);

impl Volumes {
    /// The volumes of a disk, by its table and what the kernel knows of its partitions.
    pub fn of_disk(nodes: &[Node], disk: &str, table: &Table) -> Volumes {
        let mut volumes = Volumes::default();
        for volume in Volume::ALL {
            if let Some(node) = block::partition(nodes, disk, volume.partition()) {
                let state = State::Closed { made: table.is_marked(volume.partition()) };
                let place = Place { state, device: node.device(), size_bytes: node.size_bytes, ..Place::default() };
                volumes.0.insert(volume, place);
            }
        }
        volumes
    }

    pub fn place(&mut self, volume: Volume) -> &mut Place {
        self.0.entry(volume).or_default()
    }

    pub fn status(&self, volume: Volume) -> VolumeStatus {
        let missing = Place::default();
        let place = self.0.get(&volume).unwrap_or(&missing);
        let state = match place.state {
            State::Missing => VolumeState::Missing,
            State::Closed { .. } => VolumeState::Closed,
            State::Preparing | State::Making | State::Marking | State::Checking | State::Repairing | State::Mounting | State::Growing => {
                VolumeState::Opening
            }
            State::Open => VolumeState::Open,
            State::Broken => VolumeState::Broken { reason: place.reason.clone() },
        };
        VolumeStatus { volume, state, size_bytes: place.size_bytes, device: place.device.display().to_string() }
    }

    pub fn statuses(&self) -> Vec<VolumeStatus> {
        Volume::ALL.map(|volume| self.status(volume)).to_vec()
    }

    pub fn is_open(&self, volume: Volume) -> bool {
        self.0.get(&volume).is_some_and(|place| place.state == State::Open)
    }
}
