//! `cluster console`: what a machine writes to its serial console.

use std::time::Duration;

use clap::Args;
use testbed::Machine;

use super::named::Named;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::write;

/// How often it is looked at for more.
const AGAIN: Duration = Duration::from_millis(200);

/// Show what a machine of a local cluster has written to its console since it was started
#[derive(Debug, Args)]
pub struct Console {
    /// Name of the machine
    machine: String,
    #[command(flatten)]
    named: Named,
    /// Go on with what comes, until the machine ends
    #[arg(short, long)]
    follow: bool,
}

impl Console {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let (_, record) = self.named.find(world)?;
        let member = record.member(&self.machine)?;
        let never = || Failure::new(&self.machine, "it was never started").remedy("start it with `machinectl cluster start`");
        let machine = Machine::attach(member.machine.clone().ok_or_else(never)?);
        let mut shown = 0;
        loop {
            let alive = machine.is_alive();
            let text = machine.console().text()?;
            // One that was started anew begins at the top.
            write(text.get(shown..).unwrap_or(&text));
            shown = text.len();
            if !(self.follow && alive) {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
