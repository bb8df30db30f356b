//! Local clusters: one control plane in QEMU, without root.

mod accelerators;
mod create;
mod destroy;
mod fingerprint;
mod show;
mod state;
mod waiting;

use clap::Subcommand;

use crate::cli::World;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Cluster {
    Create(create::Create),
    Show(show::Show),
    Destroy(destroy::Destroy),
}

impl Cluster {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Cluster::Create(create) => create.run(world).await,
            Cluster::Show(show) => show.run(world),
            Cluster::Destroy(destroy) => destroy.run(world),
        }
    }
}
