//! Local clusters: machines in QEMU on a segment of their own, without root.

mod accelerators;
mod add;
mod configs;
mod console;
mod create;
mod destroy;
mod fingerprint;
mod growth;
mod layout;
mod named;
mod net;
mod power;
mod remove;
mod show;
mod start;
mod state;
mod stop;
mod switch;
mod waiting;

use clap::Subcommand;

use crate::cli::World;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Cluster {
    Create(create::Create),
    Show(show::Show),
    Start(start::Start),
    Stop(stop::Stop),
    Add(add::Add),
    Remove(remove::Remove),
    /// The links between the machines: show them, make them slow or lossy, cut and mend them
    #[command(subcommand)]
    Net(net::Net),
    Console(console::Console),
    Destroy(destroy::Destroy),
    #[command(hide = true)]
    Switch(switch::Switch),
}

impl Cluster {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Cluster::Create(create) => create.run(world).await,
            Cluster::Show(show) => show.run(world),
            Cluster::Start(start) => start.run(world).await,
            Cluster::Stop(stop) => stop.run(world).await,
            Cluster::Add(add) => add.run(world).await,
            Cluster::Remove(remove) => remove.run(world).await,
            Cluster::Net(net) => net.run(world),
            Cluster::Console(console) => console.run(world).await,
            Cluster::Destroy(destroy) => destroy.run(world),
            Cluster::Switch(switch) => switch.run(),
        }
    }
}
