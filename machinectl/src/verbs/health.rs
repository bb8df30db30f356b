//! `health`: the machine's checks, until all pass.

use std::time::{Duration, Instant};

use api::v1::{Check, GetHealthRequest, GetHealthResponse};
use clap::Args;
pub use dashboard::figures::summary;
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::cli::World;
use crate::failure::{Failure, Kind};
use crate::output::{Output, Table};
use crate::progress::Progress;
use crate::session::Session;

/// What is added to the machine's own deadline: it answers when that is over.
const GRACE: Duration = Duration::from_secs(30);

/// Show a machine's checks, or wait until all pass
#[derive(Debug, Args)]
pub struct Health {
    /// Wait until all checks pass, at most this long, such as 10m
    #[arg(long, value_name = "DURATION")]
    wait: Option<machine::config::Duration>,
    #[command(flatten)]
    output: Output,
}

impl Health {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let wait = self.wait.map(|wait| wait.0);
        let progress = Progress::waiting(world.quiet);
        let usual = Some(wait.unwrap_or_default() + GRACE);
        // Whoever waits for a machine may wait for one that is still booting.
        let connection = wait.map_or_else(|| world.connection.clone(), |wait| world.connection.waiting_for(wait));
        let answers = connection.each(usual, async |session| last_report(&session, wait, &progress).await).await?;
        drop(progress);
        if !answers.done.is_empty() {
            self.output.print(|_| table(&answers.done), || values(&answers.done));
        }
        let unhealthy: Vec<_> = answers.done.iter().filter(|(_, report)| !report.healthy).map(|(node, _)| node.to_string()).collect();
        answers.outcome()?;
        match (unhealthy.is_empty(), self.wait) {
            (true, _) => Ok(()),
            (false, None) => Err(Failure::new(unhealthy.join(", "), "not healthy")
                .remedy("wait for it with --wait 10m; see `machinectl services` and `machinectl logs`")),
            (false, Some(wait)) => {
                let failure = Failure::new(unhealthy.join(", "), format!("not healthy within {wait}"));
                Err(Failure { kind: Kind::Deadline, ..failure }.remedy("see `machinectl services` and `machinectl logs`"))
            }
        }
    }
}

/// How long to wait before a broken connection is made anew.
pub const AGAIN: Duration = Duration::from_secs(1);

/// Follows the reports and gives the last one. While the machine is waited for, its API may go away and come back.
pub async fn last_report(session: &Session, wait: Option<Duration>, progress: &Progress) -> Result<GetHealthResponse, Failure> {
    let began = Instant::now();
    loop {
        let left = wait.map(|wait| wait.saturating_sub(began.elapsed()));
        match follow(session, left, progress).await {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => return Err(Failure::new(&session.node, "the machine reported no checks")),
            Err(status) if Session::is_broken(&status) && left.is_some_and(|left| left > AGAIN) => {
                progress.wait_for(format!("{}: the connection broke; trying again", session.node));
                tokio::time::sleep(AGAIN).await;
            }
            Err(status) => return Err(session.failed(&status)),
        }
    }
}

async fn follow(session: &Session, wait: Option<Duration>, progress: &Progress) -> Result<Option<GetHealthResponse>, Status> {
    let wait = wait.and_then(|wait| prost_types::Duration::try_from(wait).ok());
    let mut reports = session.machine().get_health(GetHealthRequest { wait }).await?.into_inner();
    let mut last = None;
    while let Some(report) = reports.next().await {
        let report = report?;
        progress.wait_for(summary(&report));
        last = Some(report);
    }
    Ok(last)
}

fn table(reports: &[(HostPort, GetHealthResponse)]) -> Table {
    let mut table = Table::new(&["NODE", "CHECK", "STATE", "MESSAGE"]);
    for (node, report) in reports {
        for Check { name, passed, message } in report.checks.clone() {
            table.row([node.to_string(), name, (if passed { "passes" } else { "fails" }).to_owned(), message]);
        }
    }
    table
}

fn values(reports: &[(HostPort, GetHealthResponse)]) -> Value {
    let check = |check: &Check| json!({ "name": check.name, "passed": check.passed, "message": check.message });
    let value = |(node, report): &(HostPort, GetHealthResponse)| json!({ "node": node.to_string(), "healthy": report.healthy, "checks": report.checks.iter().map(check).collect::<Vec<_>>() });
    reports.iter().map(value).collect()
}
