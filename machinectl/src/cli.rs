//! The commands that there are.

#[cfg(test)]
mod reference;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cluster;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::places::Places;
use crate::verbs;

/// Manages Corten machines and the Kubernetes clusters made of them
#[derive(Debug, Parser)]
#[command(name = "machinectl", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done on some machines only, 124 not done in time.")]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    /// Show no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Folder of local clusters [default: ~/.local/share/corten/clusters]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Local clusters")]
    pub state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make configs, client certificates and secrets
    #[command(subcommand)]
    Gen(verbs::generate::Gen),
    Validate(verbs::validate::Validate),
    Explain(verbs::validate::Explain),
    Apply(verbs::apply::Apply),
    Patch(verbs::apply::Patch),
    /// The machine config: show it, its history, confirm or roll back
    #[command(subcommand)]
    Config(verbs::config::Config),
    Bootstrap(verbs::bootstrap::Bootstrap),
    Kubeconfig(verbs::kubeconfig::Kubeconfig),
    Health(verbs::health::Health),
    Services(verbs::services::Services),
    Logs(verbs::log::Logs),
    Dmesg(verbs::log::Dmesg),
    Events(verbs::log::Events),
    Get(verbs::get::Get),
    Pcap(verbs::pcap::Pcap),
    Top(verbs::top::Top),
    Dashboard(verbs::dashboard::Dashboard),
    Version(verbs::version::Version),
    /// Container images of a machine
    #[command(subcommand)]
    Image(verbs::image::Image),
    /// A machine's files, to look at
    #[command(subcommand)]
    Files(verbs::files::Files),
    /// The log of calls that changed something
    #[command(subcommand)]
    Audit(verbs::audit::Audit),
    /// The members of etcd, the cluster's data, and what is done when some of them are lost
    #[command(subcommand)]
    Etcd(verbs::etcd::Etcd),
    /// Join tokens of the cluster
    #[command(subcommand)]
    Token(verbs::token::Token),
    /// Machines that have joined the cluster
    #[command(subcommand)]
    Machines(verbs::machines::Machines),
    /// New authorities for old ones
    #[command(subcommand)]
    Rotate(verbs::rotate::Rotate),
    Upgrade(verbs::upgrade::Upgrade),
    Rollback(verbs::rollback::Rollback),
    Reboot(verbs::power::Reboot),
    Shutdown(verbs::power::Shutdown),
    Reset(verbs::power::Reset),
    /// Contexts of the client config: which cluster, and as whom
    #[command(subcommand)]
    Context(verbs::context::ContextVerb),
    /// Local clusters in QEMU
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    Completion(verbs::completion::Completion),
    Man(verbs::completion::Man),
}

/// What every command gets besides its own arguments.
#[derive(Debug)]
pub struct World {
    pub connection: Connection,
    pub quiet: bool,
    pub places: Places,
}

impl Cli {
    pub async fn run(self, places: &Places) -> Result<(), Failure> {
        let mut places = places.clone();
        if let Some(clusters) = self.state_dir {
            places.clusters = clusters;
        }
        let connection = Connection { default_config: places.client_config.clone(), ..self.connection };
        let world = World { connection, quiet: self.quiet, places };
        match self.verb {
            Verb::Gen(verb) => verb.run(&world),
            Verb::Validate(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(),
            Verb::Apply(verb) => verb.run(&world).await,
            Verb::Patch(verb) => verb.run(&world).await,
            Verb::Config(verb) => verb.run(&world).await,
            Verb::Bootstrap(verb) => verb.run(&world).await,
            Verb::Kubeconfig(verb) => verb.run(&world).await,
            Verb::Health(verb) => verb.run(&world).await,
            Verb::Services(verb) => verb.run(&world).await,
            Verb::Logs(verb) => verb.run(&world).await,
            Verb::Dmesg(verb) => verb.run(&world).await,
            Verb::Events(verb) => verb.run(&world).await,
            Verb::Get(verb) => verb.run(&world).await,
            Verb::Pcap(verb) => verb.run(&world).await,
            Verb::Top(verb) => verb.run(&world).await,
            Verb::Dashboard(verb) => verb.run(&world).await,
            Verb::Version(verb) => verb.run(&world).await,
            Verb::Image(verb) => verb.run(&world).await,
            Verb::Files(verb) => verb.run(&world).await,
            Verb::Audit(verb) => verb.run(&world).await,
            Verb::Etcd(verb) => verb.run(&world).await,
            Verb::Token(verb) => verb.run(&world).await,
            Verb::Machines(verb) => verb.run(&world).await,
            Verb::Rotate(verb) => verb.run(&world).await,
            Verb::Upgrade(verb) => verb.run(&world).await,
            Verb::Rollback(verb) => verb.run(&world).await,
            Verb::Reboot(verb) => verb.run(&world).await,
            Verb::Shutdown(verb) => verb.run(&world).await,
            Verb::Reset(verb) => verb.run(&world).await,
            Verb::Context(verb) => verb.run(&world),
            Verb::Cluster(verb) => verb.run(&world).await,
            Verb::Completion(verb) => verb.run(),
            Verb::Man(verb) => verb.run(),
        }
    }
}
