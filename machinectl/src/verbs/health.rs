//! `health`: the machine's checks, until all pass.

use std::time::Duration;

use api::v1::{Check, GetHealthRequest, GetHealthResponse};
use clap::Args;
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

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
        let answers = world.connection.each(usual, async |session| last_report(&session, wait, &progress).await).await?;
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

/// Follows the reports and gives the last one.
pub async fn last_report(session: &Session, wait: Option<Duration>, progress: &Progress) -> Result<GetHealthResponse, Failure> {
    let wait = wait.and_then(|wait| prost_types::Duration::try_from(wait).ok());
    let mut reports = session.ask(session.machine().get_health(GetHealthRequest { wait })).await?;
    let mut last = None;
    while let Some(report) = reports.next().await {
        let report = report.map_err(|status| session.failed(&status))?;
        progress.wait_for(summary(&report));
        last = Some(report);
    }
    last.ok_or_else(|| Failure::new(&session.node, "the machine reported no checks"))
}

/// `3 of 9 checks pass; etcd: not started`
pub fn summary(report: &GetHealthResponse) -> String {
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let first = report.checks.iter().find(|check| !check.passed).map(|check| format!("; {}: {}", check.name, check.message));
    format!("{passed} of {} checks pass{}", report.checks.len(), first.unwrap_or_default())
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
