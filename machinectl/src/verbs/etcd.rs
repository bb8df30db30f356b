//! `etcd`: the cluster's members, its data, and what is done when some of them are lost.

mod defrag;
mod members;
mod recover;
mod restore;
mod snapshot;

use clap::Subcommand;

use crate::cli::World;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Etcd {
    Members(members::Members),
    Status(members::Status),
    Remove(members::Remove),
    Snapshot(snapshot::Snapshot),
    Restore(restore::Restore),
    Recover(recover::Recover),
    Rejoin(recover::Rejoin),
    Defrag(defrag::Defrag),
    /// Alarms that members have raised
    #[command(subcommand)]
    Alarm(defrag::Alarm),
}

impl Etcd {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Etcd::Members(verb) => verb.run(world).await,
            Etcd::Status(verb) => verb.run(world).await,
            Etcd::Remove(verb) => verb.run(world).await,
            Etcd::Snapshot(verb) => verb.run(world).await,
            Etcd::Restore(verb) => verb.run(world).await,
            Etcd::Recover(verb) => verb.run(world).await,
            Etcd::Rejoin(verb) => verb.run(world).await,
            Etcd::Defrag(verb) => verb.run(world).await,
            Etcd::Alarm(verb) => verb.run(world).await,
        }
    }
}
