//! `reboot`, `shutdown`, `reset`: nothing of it without a question or `--yes`.

use api::v1::{GetVersionRequest, RebootRequest, ResetRequest, ShutdownRequest};
use clap::{Args, ValueEnum};

use super::{QUICK, SLOW};
use crate::cli::World;
use crate::confirm::{answer, confirmed};
use crate::connection::Answers;
use crate::failure::Failure;
use crate::output::{tell, write};
use crate::session::Session;

#[derive(Debug, Clone, Copy, Args)]
struct Consent {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Stop all services and start the machine again
#[derive(Debug, Args)]
pub struct Reboot {
    #[command(flatten)]
    consent: Consent,
}

/// Stop all services and power the machine off
#[derive(Debug, Args)]
pub struct Shutdown {
    #[command(flatten)]
    consent: Consent,
}

/// Wipe volumes and reboot: without STATE the machine forgets its config and keys
#[derive(Debug, Args)]
pub struct Reset {
    /// Volumes to wipe [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "VOLUME,...")]
    wipe: Vec<VolumeName>,
    /// Power off instead of rebooting
    #[arg(long)]
    power_off: bool,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VolumeName {
    State,
    Etcd,
    Ephemeral,
}

impl Reboot {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: &Session, dry_run| {
            session.ask(session.machine().reboot(RebootRequest { dry_run })).await.map(|response| response.plan)
        };
        self.consent.carry_out(world, "reboots", ask).await
    }
}

impl Shutdown {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: &Session, dry_run| {
            session.ask(session.machine().shutdown(ShutdownRequest { dry_run })).await.map(|response| response.plan)
        };
        self.consent.carry_out(world, "shuts down", ask).await
    }
}

impl Consent {
    /// Shows each machine's plan, asks, and does it.
    async fn carry_out(
        self,
        world: &World,
        does: &str,
        ask: impl AsyncFn(&Session, bool) -> Result<Vec<String>, Failure>,
    ) -> Result<(), Failure> {
        if self.dry_run || !self.yes {
            let plans = world.connection.each_named(QUICK, async |session| ask(&session, true).await).await?;
            show_plans(&plans);
            plans.outcome()?;
        }
        if self.dry_run || !(self.yes || confirmed("Go on?")?) {
            return Ok(());
        }
        let answers = world.connection.each_named(SLOW, async |session| ask(&session, false).await).await?;
        answers.done.iter().for_each(|(node, _)| write(&format!("{node} {does}\n")));
        answers.outcome()
    }
}

fn show_plans(plans: &Answers<Vec<String>>) {
    for (node, plan) in &plans.done {
        write(&format!("{node}:\n"));
        plan.iter().for_each(|step| write(&format!("  {step}\n")));
    }
}

impl Reset {
    /// One machine at a time, and its name has to be typed.
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Consent { dry_run, yes } = self.consent;
        let look = async |session: Session| {
            let plan = session.ask(session.machine().reset(self.request(true, String::new()))).await?.plan;
            let version = session.ask(session.machine().get_version(GetVersionRequest {})).await?;
            Ok((session.node.clone(), version.hostname, plan))
        };
        let (node, hostname, plan) = world.connection.one(QUICK, look).await?;
        write(&format!("{node} ({hostname}):\n"));
        plan.iter().for_each(|step| write(&format!("  {step}\n")));
        if dry_run {
            return Ok(());
        }
        if !yes && answer(&format!("What is wiped is lost. Type the machine's name ({hostname}) to go on: "))? != hostname {
            tell("that is not its name: nothing was done");
            return Err(Failure::new(node, "not reset"));
        }
        world
            .connection
            .one(SLOW, async |session| session.ask(session.machine().reset(self.request(false, hostname.clone()))).await)
            .await?;
        write(&format!("{node} resets\n"));
        Ok(())
    }

    fn request(&self, dry_run: bool, confirm: String) -> ResetRequest {
        let name = |volume: &VolumeName| match volume {
            VolumeName::State => "STATE",
            VolumeName::Etcd => "ETCD",
            VolumeName::Ephemeral => "EPHEMERAL",
        };
        let volumes = self.wipe.iter().map(|volume| name(volume).to_owned()).collect();
        ResetRequest { dry_run, volumes, confirm, power_off: self.power_off }
    }
}
