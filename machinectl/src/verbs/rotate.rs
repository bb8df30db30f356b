//! `rotate`: new authorities for old ones.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use controlplane::pki::AuthorityId;

use crate::cli::World;
use crate::failure::Failure;
use crate::output::Output;
use crate::rotate::{self, Until, Wish};

#[derive(Debug, Subcommand)]
pub enum Rotate {
    Ca(Ca),
}

/// Have a new authority take an old one's place on all machines of the cluster, without downtime: all accept both, then all get certificates of the
/// new one, then the old one goes. After a cut, the same command goes on where it was
#[derive(Debug, Args)]
pub struct Ca {
    /// Which one: kubernetes, kubelet, etcdPeer, etcdClient, frontProxy or machine
    #[arg(value_name = "AUTHORITY", value_parser = authority)]
    authority: AuthorityId,
    /// The cluster's secrets; the new authority is kept there
    #[arg(long, value_name = "FILE", default_value = "secrets.yaml")]
    with_secrets: PathBuf,
    /// Only show what would be done, and where the machines stand
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Stop after this step, to go on later with the same command
    #[arg(long, value_name = "STEP", value_enum)]
    until: Option<Until>,
    /// Leave out machines that are gone for good
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    without: Vec<String>,
    /// How long a machine may take to follow a step, such as 15m
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    wait: machine::config::Duration,
    #[command(flatten)]
    output: Output,
}

/// As the machine config names it; capitals and dashes do not matter.
fn authority(text: &str) -> Result<AuthorityId, String> {
    let bare = |name: &str| name.replace('-', "").to_lowercase();
    let found = AuthorityId::ALL.into_iter().find(|id| bare(id.name()) == bare(text));
    found.ok_or_else(|| format!("expected one of {}", AuthorityId::ALL.map(AuthorityId::name).join(", ")))
}

impl Rotate {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Rotate::Ca(Ca { authority, with_secrets, dry_run, yes, until, without, wait, output }) = self;
        let wish = Wish { authority, secrets: with_secrets, dry_run, yes, until, without, wait: wait.0, output };
        rotate::run(world, &wish).await
    }
}
