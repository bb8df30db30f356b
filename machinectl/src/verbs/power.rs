//! `reboot`, `shutdown`, `reset`: nothing of it without a question or `--yes`.

use std::time::Duration;

use api::v1::{GetVersionRequest, RebootRequest, ResetRequest, ShutdownRequest};
use clap::{Args, ValueEnum};

use super::health::{AGAIN, last_report, summary};
use super::{QUICK, SLOW};
use crate::cli::World;
use crate::confirm::{answer, confirmed};
use crate::connection::Answers;
use crate::failure::Failure;
use crate::output::{tell, write};
use crate::progress::Progress;
use crate::session::Session;
use crate::swap::{self, Rolling, Wish};

/// How long a machine may take from its reboot until it is healthy, if the user does not say.
const HEALTHY_AGAIN: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone, Copy, Args)]
struct Consent {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also where etcd loses its quorum by it
    #[arg(long)]
    force: bool,
}

/// Stop all services and start the machine again
#[derive(Debug, Args)]
pub struct Reboot {
    /// Wait until it has booted and is healthy again, at most this long, such as 10m
    #[arg(long, value_name = "DURATION")]
    wait: Option<machine::config::Duration>,
    #[command(flatten)]
    rolling: Rolling,
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
        let force = self.consent.force;
        if self.rolling.rolling {
            let wait = self.wait.map_or(HEALTHY_AGAIN, |wait| wait.0);
            let way = self.rolling.way(self.consent.dry_run, self.consent.yes, force, wait);
            return swap::run(world, &Wish::Reboot { force }, &way).await;
        }
        let ask = async |session: &Session, dry_run| {
            session.ask(session.machine().reboot(RebootRequest { dry_run, force })).await.map(|response| response.plan)
        };
        let Some(wait) = self.wait.map(|wait| wait.0) else { return self.consent.carry_out(world, "reboots", ask).await.map(drop) };
        let before = world.connection.each_named(QUICK, boot_id).await?;
        if !self.consent.carry_out(world, "reboots", ask).await? {
            return Ok(());
        }
        let progress = Progress::waiting(world.quiet);
        let boots = &before.done;
        let back = async |session: Session| {
            let old = boots.iter().find(|(node, _)| *node == session.node).map(|(_, boot)| boot.as_str());
            await_boot(&session, old, &progress).await?;
            let report = last_report(&session, Some(wait), &progress).await?;
            if report.healthy { Ok(()) } else { Err(Failure::new(&session.node, summary(&report))) }
        };
        let answers = world.connection.waiting_for(wait).each_named(Some(wait), back).await?;
        drop(progress);
        answers.done.iter().for_each(|(node, ())| write(&format!("{node} has booted and is healthy\n")));
        answers.outcome()
    }
}

async fn boot_id(session: Session) -> Result<String, Failure> {
    session.ask(session.machine().get_version(GetVersionRequest {})).await.map(|version| version.boot_id)
}

/// Until the machine answers from another boot than the old one. The deadline is the caller's.
pub async fn await_boot(session: &Session, old: Option<&str>, progress: &Progress) -> Result<(), Failure> {
    progress.wait_for(format!("{} reboots", session.node));
    loop {
        match session.machine().get_version(GetVersionRequest {}).await {
            Ok(version) if Some(version.get_ref().boot_id.as_str()) != old => return Ok(()),
            Ok(_) => {}
            Err(status) if Session::is_broken(&status) => {}
            Err(status) => return Err(session.failed(&status)),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Shutdown {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let force = self.consent.force;
        let ask = async |session: &Session, dry_run| {
            session.ask(session.machine().shutdown(ShutdownRequest { dry_run, force })).await.map(|response| response.plan)
        };
        self.consent.carry_out(world, "shuts down", ask).await.map(drop)
    }
}

impl Consent {
    /// Shows each machine's plan, asks, and does it; whether it was done.
    async fn carry_out(
        self,
        world: &World,
        does: &str,
        ask: impl AsyncFn(&Session, bool) -> Result<Vec<String>, Failure>,
    ) -> Result<bool, Failure> {
        if self.dry_run || !self.yes {
            let plans = world.connection.each_named(QUICK, async |session| ask(&session, true).await).await?;
            show_plans(&plans);
            plans.outcome()?;
        }
        if self.dry_run || !(self.yes || confirmed("Go on?")?) {
            return Ok(false);
        }
        let answers = world.connection.each_named(SLOW, async |session| ask(&session, false).await).await?;
        answers.done.iter().for_each(|(node, _)| write(&format!("{node} {does}\n")));
        answers.outcome().map(|()| true)
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
        let Consent { dry_run, yes, .. } = self.consent;
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
        ResetRequest { dry_run, volumes, confirm, power_off: self.power_off, force: self.consent.force }
    }
}
