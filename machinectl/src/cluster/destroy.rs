//! `cluster destroy`: ends the machines and removes all of them.

use clap::Args;

use super::state::Folder;
use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::Failure;
use crate::output::tell;

/// End a local cluster and remove its disks and keys
#[derive(Debug, Args)]
pub struct Destroy {
    /// Name of the cluster
    #[arg(default_value = "corten")]
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Destroy {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        let folder = Folder::new(&world.places.clusters, &self.name)?;
        let record = folder.record()?;
        let question = format!("This ends the cluster {} and removes {}. Go on?", self.name, folder.directory.display());
        if !(self.yes || confirmed(&question)?) {
            return Err(Failure::new(&self.name, "not destroyed"));
        }
        folder.remove(record)?;
        if !world.quiet {
            tell(&format!("the cluster {} is gone", self.name));
        }
        Ok(())
    }
}
