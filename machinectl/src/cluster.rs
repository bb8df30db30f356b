//! Local clusters: machines in QEMU on a segment of their own, without root.

mod accelerators;
mod configs;
mod create;
mod destroy;
mod fingerprint;
mod growth;
mod layout;
mod power;
mod show;
mod state;
mod switch;
mod waiting;

use clap::Subcommand;

use crate::cli::World;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Cluster {
    Create(create::Create),
    Show(show::Show),
    Destroy(destroy::Destroy),
    #[command(hide = true)]
    Switch(switch::Switch),
}

impl Cluster {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Cluster::Create(create) => create.run(world).await,
            Cluster::Show(show) => show.run(world),
            Cluster::Destroy(destroy) => destroy.run(world),
            Cluster::Switch(switch) => switch.run(),
        }
    }
}
