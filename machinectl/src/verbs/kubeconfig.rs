//! `kubeconfig`: a cluster administrator's, with a fresh certificate.

use std::path::{Path, PathBuf};

use api::v1::GetKubeconfigRequest;
use clap::Args;
use controlplane::kubeconfig;

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::files;
use crate::output::{tell, write};
use crate::session::Session;

/// Get a kubeconfig with a fresh certificate and merge it into one's own
#[derive(Debug, Args)]
pub struct Kubeconfig {
    /// File to merge it into; - is standard output, unmerged [default: the first of $KUBECONFIG, or ~/.kube/config]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long the certificate is valid, such as 12h [default: a year]
    #[arg(long, value_name = "DURATION")]
    valid_for: Option<machine::config::Duration>,
    /// Replace the file instead of merging into it
    #[arg(long)]
    force: bool,
}

impl Kubeconfig {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let valid_for = self.valid_for.and_then(|valid_for| prost_types::Duration::try_from(valid_for.0).ok());
        let new = fetch(world, valid_for).await?;
        let path = self.output.unwrap_or_else(|| world.places.kubeconfig.clone());
        if path == Path::new("-") {
            write(&new);
            return Ok(());
        }
        let existing = if self.force || !path.exists() { String::new() } else { files::read_text(&path)? };
        let merged = kubeconfig::merge(&existing, &new);
        let merged = merged.map_err(|error| Failure::of(path.display(), &error).remedy("repair the file, or replace it with --force"))?;
        files::write(&path, &merged, files::SECRET)?;
        if !world.quiet {
            tell(&format!("merged into {}; it is the current context now", path.display()));
        }
        Ok(())
    }
}

/// From any one of the machines.
async fn fetch(world: &World, valid_for: Option<prost_types::Duration>) -> Result<String, Failure> {
    let ask = async |session: Session| session.ask(session.cluster().get_kubeconfig(GetKubeconfigRequest { valid_for })).await;
    let mut answers = world.connection.each(QUICK, ask).await?;
    match answers.done.pop() {
        Some((_, response)) => Ok(response.kubeconfig),
        None => Err(answers.outcome().err().unwrap_or_else(|| Failure::new("", "no machine answered"))),
    }
}
