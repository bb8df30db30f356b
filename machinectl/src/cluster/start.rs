//! `cluster start`: machines on that were off.

use std::time::Duration;

use clap::Args;
use futures::future::join_all;

use super::growth::{Growth, answers};
use super::named::{Named, members};
use super::waiting::Deadline;
use super::{configs, create};
use crate::cli::World;
use crate::failure::Failure;
use crate::progress::Progress;

/// How long they may take if the user does not say.
const WHOLE: Duration = Duration::from_secs(15 * 60);

/// Power machines of a local cluster on, and wait until they are healthy
#[derive(Debug, Args)]
pub struct Start {
    /// Names of the machines [default: all]
    #[arg(value_name = "MACHINE")]
    machines: Vec<String>,
    #[command(flatten)]
    named: Named,
    /// Do not wait until they are healthy
    #[arg(long)]
    no_wait: bool,
}

impl Start {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let (folder, mut record) = self.named.find(world)?;
        let progress = Progress::waiting(world.quiet);
        let deadline = Deadline::after(world.connection.timeout.map_or(WHOLE, |timeout| timeout.0));
        let members = members(&record, &self.machines)?;
        let mut started = Vec::new();
        for member in members.iter().filter(|member| !member.is_running()) {
            let name = member.name();
            let machine = create::start(world, &folder, &mut record, &name, &progress)?;
            started.push((name, machine));
        }
        configs::name_endpoints(&folder, &record)?;
        if self.no_wait {
            return Ok(());
        }
        let record = &record;
        let one = async |name: &String, machine| {
            let member = record.member(name)?;
            Growth { folder: &folder, record, progress: &progress, deadline, member, machine }.healthy().await
        };
        let healthy = join_all(started.iter().map(|(name, machine)| one(name, machine))).await;
        answers(started.iter().map(|(name, _)| name), healthy).outcome()
    }
}
