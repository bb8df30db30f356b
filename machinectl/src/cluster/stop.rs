//! `cluster stop`: machines off, their disks kept.

use std::time::Duration;

use api::v1::ShutdownRequest;
use clap::Args;
use futures::future::join_all;
use testbed::Machine;

use super::named::{Named, members};
use super::state::{Folder, Member};
use super::waiting::{Deadline, Wait};
use super::{configs, growth};
use crate::cli::World;
use crate::failure::Failure;
use crate::progress::Progress;

/// How long a machine may take to shut down before its power is taken away.
const ORDERLY: Duration = Duration::from_secs(120);

/// Power machines of a local cluster off; their disks stay
#[derive(Debug, Args)]
pub struct Stop {
    /// Names of the machines [default: all]
    #[arg(value_name = "MACHINE")]
    machines: Vec<String>,
    #[command(flatten)]
    named: Named,
    /// Take the power away instead of shutting down
    #[arg(long)]
    power_cut: bool,
}

impl Stop {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let (folder, record) = self.named.find(world)?;
        let running: Vec<Member> = members(&record, &self.machines)?.into_iter().filter(Member::is_running).collect();
        let progress = Progress::waiting(world.quiet);
        // At one instant, as a power cut is.
        let machines = running.iter().filter_map(|member| member.machine.clone());
        if self.power_cut {
            machines.clone().for_each(|machine| machine.process.kill());
        } else {
            let deadline = world.connection.timeout.map_or(ORDERLY, |timeout| timeout.0);
            join_all(running.iter().map(|member| shut_down(&folder, member, deadline, &progress))).await;
        }
        for (member, machine) in running.iter().zip(machines) {
            Machine::attach(machine).kill();
            progress.done(&format!("{} is off", member.name()));
        }
        Ok(())
    }
}

/// Asks the machine to shut down and waits until it is off, if it does. Quorum is the user's business here: who stops a cluster means all of it.
async fn shut_down(folder: &Folder, member: &Member, deadline: Duration, progress: &Progress) {
    let Some(machine) = member.machine.clone().map(Machine::attach) else { return };
    let asked = async {
        let session = growth::cluster_session(&configs::context(folder)?, &growth::node(member)?).await?;
        session.ask(session.machine().shutdown(ShutdownRequest { dry_run: false, force: true })).await
    };
    let what = format!("{} to shut down", member.name());
    match asked.await {
        Ok(_) => {
            let wait = Wait { machine: &machine, progress, what: &what, deadline: Deadline::after(deadline).left(deadline) };
            // Its end is what is waited for; one that does not end is ended.
            let _ = wait.until(async || Err::<(), _>(Failure::new(&what, "still on"))).await;
        }
        Err(failure) => progress.done(&format!("{} does not shut down, so its power is taken away: {failure}", member.name())),
    }
}
