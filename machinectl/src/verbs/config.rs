//! `config`: the config that a machine has, and those before it.

use api::v1::{ConfirmRequest, DiffRequest, Generation, GetConfigRequest, ListGenerationsRequest, RollbackRequest};
use clap::{Args, Subcommand};
use dashboard::times;
use machine::config::HostPort;
use serde_json::{Value, json};

use super::{QUICK, SLOW};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, tell, write};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Config {
    Show(Show),
    #[command(visible_alias = "list")]
    History(History),
    Diff(Diff),
    Confirm(Confirm),
    Rollback(Rollback),
}

/// Print a machine's config; secrets are masked for all but admins
#[derive(Debug, Args)]
pub struct Show {
    /// An earlier one, by number
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
}

/// Show the generations of config that a machine has kept: who applied each, when, and how many lines it changed
#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    output: Output,
}

/// Show how one generation differs from another; secrets are masked
#[derive(Debug, Args)]
pub struct Diff {
    /// Generation to compare with [default: the one before TO]
    from: Option<u64>,
    /// Generation to look at [default: the one in force]
    to: Option<u64>,
}

/// Make a config that is tried with a deadline the lasting one
#[derive(Debug, Args)]
pub struct Confirm {}

/// Go back to an earlier config
#[derive(Debug, Args)]
pub struct Rollback {
    /// Generation to go back to [default: the one before the current]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    /// Only show the difference
    #[arg(long)]
    dry_run: bool,
}

impl Config {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Config::Show(show) => show.run(world).await,
            Config::History(history) => history.run(world).await,
            Config::Diff(diff) => diff.run(world).await,
            Config::Confirm(_) => confirm(world).await,
            Config::Rollback(rollback) => rollback.run(world).await,
        }
    }
}

impl Show {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let request = GetConfigRequest { generation: self.generation };
        let response = world.connection.one(QUICK, async |session| session.ask(session.config().get(request)).await).await?;
        write(&String::from_utf8_lossy(&response.document));
        Ok(())
    }
}

impl History {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session| session.ask(session.config().list_generations(ListGenerationsRequest {})).await;
        let answers = world.connection.each(QUICK, ask).await?;
        let rows: Vec<_> = answers.done.iter().flat_map(|(node, response)| response.generations.iter().map(move |g| (node, g))).collect();
        if !answers.done.is_empty() {
            self.output.print(|wide| table(&rows, wide), || rows.iter().map(|(node, generation)| value(node, generation)).collect());
        }
        answers.outcome()
    }
}

impl Diff {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let request = DiffRequest { from: self.from, to: self.to };
        let response = world.connection.one(QUICK, async |session| session.ask(session.config().diff(request)).await).await?;
        if response.diff.is_empty() {
            tell(&format!("generations {} and {} do not differ", response.from, response.to));
        }
        write(&response.diff);
        Ok(())
    }
}

fn table(rows: &[(&HostPort, &Generation)], wide: bool) -> Table {
    let mut table = Table::new(&["NODE", "GENERATION", "CURRENT", "APPLIED", "BY", "CHANGES", "REVERTS"]);
    table.headings.extend(wide.then(|| "DIGEST".to_owned()));
    for (node, g) in rows {
        let current = if g.current { "yes" } else { "" };
        let (applied, reverts) = (times::shown(g.applied_at.as_ref()), times::shown(g.revert_at.as_ref()));
        let (number, by, changes) = (g.number.to_string(), g.applied_by.clone(), changes(g));
        table.row([node.to_string(), number, current.to_owned(), applied, by, changes, reverts, g.digest.clone()]);
    }
    table
}

/// `+3 -1`; nothing for the first generation, which has none before it.
fn changes(generation: &Generation) -> String {
    match (generation.lines_added, generation.lines_removed) {
        (0, 0) => String::new(),
        (added, removed) => format!("+{added} -{removed}"),
    }
}

fn value(node: &HostPort, generation: &Generation) -> Value {
    let mut value = json!({
        "node": node.to_string(),
        "generation": generation.number,
        "current": generation.current,
        "appliedAt": times::shown(generation.applied_at.as_ref()),
        "appliedBy": generation.applied_by,
        "digest": generation.digest,
        "linesAdded": generation.lines_added,
        "linesRemoved": generation.lines_removed,
    });
    if generation.revert_at.is_some() {
        value["revertAt"] = times::shown(generation.revert_at.as_ref()).into();
    }
    value
}

async fn confirm(world: &World) -> Result<(), Failure> {
    let ask = async |session: Session| session.ask(session.config().confirm(ConfirmRequest {})).await;
    let answers = world.connection.each_named(SLOW, ask).await?;
    answers.done.iter().for_each(|(node, response)| write(&format!("{node}: generation {} stays\n", response.generation)));
    answers.outcome()
}

impl Rollback {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let request = RollbackRequest { generation: self.to, dry_run: self.dry_run };
        let answers = world.connection.each_named(SLOW, async |session| session.ask(session.config().rollback(request)).await).await?;
        for (node, response) in &answers.done {
            write(&response.diff);
            let verb = if self.dry_run { "would be" } else { "is" };
            write(&format!("{node}: generation {} {verb} in force\n", response.generation));
        }
        answers.outcome()
    }
}
