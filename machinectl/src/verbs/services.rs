//! `services`: list, start, stop, restart.

use api::v1::{RestartRequest, StartRequest, StopRequest};
use clap::{Args, Subcommand};

use super::{SLOW, get};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, write};
use crate::session::Session;

/// Show a machine's services; start, stop or restart one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Services {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a service that was stopped
    Start(Which),
    /// Stop a service; it stays stopped until it is started or the machine reboots
    Stop(Which),
    /// Stop a service and start it again
    Restart(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Name, such as kubelet
    service: String,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Services {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Some(action) = self.action else { return get::show(world, "services", None, self.output).await };
        let answers = world.connection.each_named(SLOW, async |session| control(&session, &action).await).await?;
        for (node, plan) in &answers.done {
            plan.iter().for_each(|line| write(&format!("{node}: {line}\n")));
        }
        answers.outcome()
    }
}

async fn control(session: &Session, action: &Action) -> Result<Vec<String>, Failure> {
    let mut client = session.service_control();
    match action {
        Action::Start(Which { service, dry_run }) => {
            let request = StartRequest { service: service.clone(), dry_run: *dry_run };
            session.ask(client.start(request)).await.map(|response| response.plan)
        }
        Action::Stop(Which { service, dry_run }) => {
            let request = StopRequest { service: service.clone(), dry_run: *dry_run };
            session.ask(client.stop(request)).await.map(|response| response.plan)
        }
        Action::Restart(Which { service, dry_run }) => {
            let request = RestartRequest { service: service.clone(), dry_run: *dry_run };
            session.ask(client.restart(request)).await.map(|response| response.plan)
        }
    }
}
