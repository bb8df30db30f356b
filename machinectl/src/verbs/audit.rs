//! `audit`: the log of calls that changed something, and whether it is whole.

use api::v1::ReadAuditRequest;
use clap::{Args, Subcommand};
use machine::audit::{Event, Head, Record};
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::SLOW;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Format, Output, Table, write};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Audit {
    List(List),
    Verify(Verify),
}

/// Show who called what changes something, and how it ended
#[derive(Debug, Args)]
pub struct List {
    /// Go on as more comes
    #[arg(short, long)]
    follow: bool,
    /// Begin with this record
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Form of what is printed: json has one record a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Check that no record of the log was changed or left out
#[derive(Debug, Args)]
#[command(
    after_help = "What is printed as HEAD is worth keeping elsewhere: given to --head later, it proves that everything up to it is still what it was."
)]
pub struct Verify {
    /// What an earlier check printed: <number>:<hash>
    #[arg(long, value_name = "HEAD")]
    head: Option<Head>,
    #[command(flatten)]
    output: Output,
}

impl Audit {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Audit::List(list) => list.run(world).await,
            Audit::Verify(verify) => verify.run(world).await,
        }
    }
}

impl List {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let several = world.connection.count()? > 1;
        let usual = if self.follow { None } else { SLOW };
        let print = async |session: Session| {
            let request = ReadAuditRequest { from: self.from, follow: self.follow };
            read(&session, request, |_| {}, |record| write(&self.shown(&session.node, several, record))).await.map(drop)
        };
        world.connection.each(usual, print).await?.outcome()
    }

    fn shown(&self, node: &HostPort, several: bool, record: &Record) -> String {
        let value = || {
            let mut value = serde_json::to_value(record).unwrap_or_default();
            if let Value::Object(fields) = &mut value {
                fields.insert("node".to_owned(), json!(node.to_string()));
            }
            value
        };
        match self.output {
            Format::Table | Format::Wide => {
                let mark = if several { format!("{node}: ") } else { String::new() };
                format!("{mark}{}\n", line(record))
            }
            Format::Json => format!("{}\n", value()),
            Format::Yaml => format!("---\n{}", machine::config::yaml::print(&value())),
        }
    }
}

fn line(record: &Record) -> String {
    let who = if record.call.subject.is_empty() { "somebody without a certificate" } else { &record.call.subject };
    let method = record.call.method.trim_start_matches("/corten.machine.v1.");
    let event = match &record.event {
        Event::Begun => "begun".to_owned(),
        Event::Ended { begun, code, .. } => format!("ended {begun}: {code}"),
        Event::Denied { reason } => format!("denied: {reason}"),
    };
    format!("{:>6}  {}  {:28} {:24} {event}", record.number, record.at, method, who)
}

/// What a check found of one machine's log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    /// Before the first record that is kept.
    start: Head,
    end: Head,
    /// The head as of the record that the user kept one of.
    then: Option<Head>,
}

impl Verify {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let check = async |session: Session| {
            let mut then = None;
            let note = |head: &Head| {
                if self.head.as_ref().is_some_and(|kept| kept.number == head.number) {
                    then = Some(head.clone());
                }
            };
            let (start, end) = read(&session, ReadAuditRequest::default(), note, |_| {}).await?;
            let checked = Checked { start, end, then };
            match self.head.as_ref().and_then(|kept| contradiction(kept, &checked)) {
                Some(problem) => Err(Failure::new(&session.node, problem)),
                None => Ok(checked),
            }
        };
        let answers = world.connection.each(SLOW, check).await?;
        if !answers.done.is_empty() {
            self.output.print(|_| table(&answers.done), || Value::Array(answers.done.iter().map(|(node, one)| value(node, one)).collect()));
        }
        answers.outcome()
    }
}

/// How the log differs from what it was.
fn contradiction(kept: &Head, found: &Checked) -> Option<String> {
    match &found.then {
        Some(then) if then == kept => None,
        Some(then) => {
            Some(format!("the records up to {} are not those that were there: the hash is {}, not {}", kept.number, then.hash, kept.hash))
        }
        None if kept.number > found.end.number => Some(format!(
            "the log ends with record {}, but had {} already: its end was cut off, or the machine was reset",
            found.end.number, kept.number
        )),
        None => Some(format!("records up to {} are no longer kept: record {} cannot be checked", found.start.number, kept.number)),
    }
}

fn table(checked: &[(HostPort, Checked)]) -> Table {
    let mut table = Table::new(&["NODE", "RECORDS", "HEAD"]);
    for (node, Checked { start, end, .. }) in checked {
        table.row([node.to_string(), format!("{} to {}", start.number + 1, end.number), end.to_string()]);
    }
    table
}

fn value(node: &HostPort, Checked { start, end, .. }: &Checked) -> Value {
    json!({ "node": node.to_string(), "first": start.number + 1, "last": end.number, "head": end.to_string() })
}

/// Reads the log and checks its chain; the heads before the first record and after the last. Each head and each record is shown in turn.
async fn read(
    session: &Session,
    request: ReadAuditRequest,
    mut head: impl FnMut(&Head),
    mut record: impl FnMut(&Record),
) -> Result<(Head, Head), Failure> {
    let broken = |problem: String| {
        Failure::new(&session.node, problem).remedy("compare with what the log's sinks received: somebody wrote here, or the disk did")
    };
    let mut answers = session.ask(session.audit().read(request)).await?;
    let mut ends: Option<(Head, Head)> = None;
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|status| session.failed(&status))?;
        if !answer.start.is_empty() {
            let start: Head = answer.start.parse().map_err(|error| Failure::of(&session.node, &error))?;
            match &ends {
                None => {
                    head(&start);
                    ends = Some((start.clone(), start));
                }
                Some((_, end)) if *end == start => {}
                Some((_, end)) => return Err(broken(format!("after record {} the log goes on from {start}, not from {end}", end.number))),
            }
        }
        let Some((_, end)) = &mut ends else { return Err(broken("the log has no beginning".to_owned())) };
        for line in &answer.lines {
            let (read, next) = end.read(line).map_err(|error| broken(error.to_string()))?;
            head(&next);
            record(&read);
            *end = next;
        }
    }
    Ok(ends.unwrap_or_else(|| (Head::start(), Head::start())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, digit: &str) -> Head {
        Head { number, hash: digit.repeat(64) }
    }

    #[test]
    fn a_kept_head_is_held_against_the_log() {
        let found = |then| Checked { start: head(10, "a"), end: head(20, "b"), then };
        assert_eq!(contradiction(&head(15, "c"), &found(Some(head(15, "c")))), None);
        for (kept, then, part) in [
            (head(15, "c"), Some(head(15, "d")), "not those that were there"),
            (head(21, "c"), None, "ends with record 20"),
            (head(9, "c"), None, "no longer kept"),
        ] {
            let problem = contradiction(&kept, &found(then)).unwrap();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
