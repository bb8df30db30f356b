//! `rollback`: the image in the other slot again.

use clap::Args;

use crate::cli::World;
use crate::failure::Failure;
use crate::swap::{self, Way, Wish};

/// Boot the image in the other slot again, with the config that it ran with last
///
/// It has to prove good like a new one. For the config alone there is `machinectl config rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    #[command(flatten)]
    way: Way,
}

impl Rollback {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        swap::run(world, &Wish::Rollback, &self.way).await
    }
}
