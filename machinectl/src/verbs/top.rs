//! `top`: what machines, their services, pods and containers use, and how long they wait for it.

pub mod table;
pub mod waits;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use api::v1::{StreamMetricsRequest, StreamMetricsResponse};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Format, Output, write};
use crate::session::Session;
use waits::Waits;

/// Show what machines, services, pods or containers use, and how long they wait for CPU, memory and I/O
#[derive(Debug, Args)]
pub struct Top {
    /// What to show
    #[arg(value_enum, default_value_t)]
    what: What,
    /// What comes first: the largest in this
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only those whose name, or whose namespace's or machine's, has this in it
    #[arg(long, value_name = "TEXT", default_value_t)]
    filter: String,
    /// Go on and show newer figures, and how the longest wait went
    #[arg(short, long)]
    watch: bool,
    /// Least time from one table to the next, with --watch
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    interval: machine::config::Duration,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum What {
    #[default]
    Nodes,
    Services,
    Pods,
    Containers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Sort {
    #[default]
    Cpu,
    Memory,
    /// The longest wait for any of CPU, memory and I/O.
    Pressure,
    /// Bytes read and written.
    Io,
    Name,
}

/// The newest figures of each machine, by its name.
type Answers = BTreeMap<String, StreamMetricsResponse>;

/// Clears a terminal from its top left corner on.
const CLEAR: &str = "\x1b[H\x1b[J";

impl Top {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        if self.watch {
            return self.follow(world).await;
        }
        let answers = world.connection.each(QUICK, async |session| first(&session, self.what).await).await?;
        let machines: Answers = answers.done.iter().map(|(node, answer)| (node.to_string(), answer.clone())).collect();
        if !machines.is_empty() {
            let rows = self.rows(&machines);
            self.output.print(|wide| table::table(self.what, &rows, machines.len(), None, wide), || table::values(&rows));
        }
        answers.outcome()
    }

    /// Shows the machines side by side, anew whenever one of them told more, but not more often than asked for.
    async fn follow(&self, world: &World) -> Result<(), Failure> {
        let seen = Mutex::new(Seen::default());
        let count = world.connection.count()?;
        let follow = async |session: Session| {
            let mut client = session.metrics();
            let interval = prost_types::Duration::try_from(self.interval.0).ok();
            let mut answers = session
                .ask(client.stream(StreamMetricsRequest { interval, node_only: self.what == What::Nodes, ..Default::default() }))
                .await?;
            while let Some(answer) = answers.message().await.map_err(|status| session.failed(&status))? {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.machines.insert(session.node.to_string(), answer);
                // The first table waits until all have answered; those that cannot be reached do not hold it up for long.
                let due = seen.shown.get_or_insert_with(Instant::now).elapsed() >= self.interval.0.mul_f32(0.5);
                if due || seen.machines.len() == count {
                    seen.shown = Some(Instant::now());
                    self.show(&mut seen);
                }
            }
            Err::<(), _>(Failure::new(&session.node, "the machine ended the stream").remedy("start it again"))
        };
        world.connection.each(None, follow).await?.outcome()
    }

    fn rows(&self, machines: &Answers) -> Vec<Row> {
        let mut rows = table::rows(self.what, self.sort, machines);
        rows.retain(|row| row.names.iter().any(|(_, name)| name.contains(&self.filter)));
        rows
    }

    fn show(&self, seen: &mut Seen) {
        let rows = self.rows(&seen.machines);
        seen.waits.note(&rows);
        match self.output.format {
            Format::Table | Format::Wide => {
                let clear = if stdout().is_terminal() { CLEAR } else { "" };
                let wide = self.output.format == Format::Wide;
                let table = table::table(self.what, &rows, seen.machines.len(), Some(&seen.waits), wide);
                write(&format!("{clear}{}", table.render(true)));
            }
            Format::Json => write(&format!("{}\n", table::values(&rows))),
            Format::Yaml => write(&format!("---\n{}", machine::config::yaml::print(&table::values(&rows)))),
        }
    }
}

/// What --watch has seen so far.
#[derive(Debug, Default)]
struct Seen {
    machines: Answers,
    /// When the last table was shown.
    shown: Option<Instant>,
    waits: Waits,
}

/// An agent that has just started has read once, and knows no rates yet.
async fn first(session: &Session, what: What) -> Result<StreamMetricsResponse, Failure> {
    let request = StreamMetricsRequest { node_only: what == What::Nodes, ..Default::default() };
    let mut answers = session.ask(session.metrics().stream(request)).await?;
    loop {
        let answer = answers.message().await.map_err(|status| session.failed(&status))?;
        let answer =
            answer.ok_or_else(|| Failure::new(&session.node, "the machine reads no figures").remedy("see `machinectl logs nodeagent`"))?;
        if answer.node.as_ref().is_some_and(|node| node.cpus_used.is_some()) {
            return Ok(answer);
        }
    }
}

type Names = Vec<(&'static str, String)>;

/// What a row is made of, and what programs get.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    /// Column headings and cells, by which a row is called.
    names: Names,
    cpus: Option<f64>,
    memory_bytes: Option<u64>,
    tasks: Option<u64>,
    read_bytes: Option<f64>,
    written_bytes: Option<f64>,
    pressure: api::v1::PressureShares,
    /// Cells of this kind of row alone.
    more: Vec<(&'static str, String, Value)>,
}
