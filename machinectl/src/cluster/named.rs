//! The cluster and the machines that a command is about.

use clap::Args;

use super::state::{Folder, Member, Record};
use crate::cli::World;
use crate::failure::Failure;

#[derive(Debug, Clone, Args)]
pub struct Named {
    /// Name of the cluster
    #[arg(long = "cluster", value_name = "NAME", default_value = "corten")]
    cluster: String,
}

impl Named {
    pub fn find(&self, world: &World) -> Result<(Folder, Record), Failure> {
        let folder = Folder::new(&world.places.clusters, &self.cluster)?;
        let record = folder.record()?;
        Ok((folder, record))
    }
}

/// Those of these names; all, where none is named.
pub fn members(record: &Record, names: &[String]) -> Result<Vec<Member>, Failure> {
    if names.is_empty() {
        return Ok(record.machines.clone());
    }
    names.iter().map(|name| record.member(name).cloned()).collect()
}
