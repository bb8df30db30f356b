//! init's services and volumes: what is wanted of them, and what init tells.

use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};
use machine::service::{ServiceSpec, ServiceState, ServiceStatus};

use crate::store::{Resource, Store};

/// What init was told of a service, named by its id.
impl Resource for ServiceSpec {
    const KIND: &'static str = "servicespecs";
}

/// What init tells of a service, named by its id.
impl Resource for ServiceStatus {
    const KIND: &'static str = "services";
}

/// What init tells of a volume, named by its label in lower case: `ephemeral`.
impl Resource for VolumeStatus {
    const KIND: &'static str = "volumes";
}

/// Whether init has the service up and ready.
pub fn is_ready(store: &Store, id: &str) -> bool {
    store.get::<ServiceStatus>(id).is_some_and(|service| service.state == ServiceState::Ready)
}

/// Where a volume stands; none before init told of it.
pub fn volume_state(store: &Store, volume: Volume) -> Option<VolumeState> {
    store.get::<VolumeStatus>(&volume_name(volume)).map(|status| status.state)
}

/// Whether a volume is mounted.
pub fn is_open(store: &Store, volume: Volume) -> bool {
    volume_state(store, volume) == Some(VolumeState::Open)
}

/// A volume's name on the board.
pub fn volume_name(volume: Volume) -> String {
    volume.partition().label().to_lowercase()
}
