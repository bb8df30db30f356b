//! `apply` and `patch`: give machines a config.

use std::path::PathBuf;

use api::v1::{ApplyRequest, ApplyResponse, GetConfigRequest};
use clap::Args;
use machine::config::yaml;

use super::SLOW;
use crate::cli::World;
use crate::connection::Answers;
use crate::failure::Failure;
use crate::output::{tell, write};
use crate::session::Session;
use crate::{files, patch};

/// How a config takes effect.
#[derive(Debug, Clone, Args)]
struct Way {
    /// Only show the difference and what would be done
    #[arg(long)]
    dry_run: bool,
    /// Try it for this long, such as 2m: the machine goes back by itself, across reboots too, unless `machinectl config confirm` is
    /// called within that time
    #[arg(long = "try", value_name = "DURATION", alias = "revert-after")]
    try_for: Option<machine::config::Duration>,
}

/// Give machines a config
#[derive(Debug, Args)]
pub struct Apply {
    /// Machine config; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Change the file's fields: YAML, or @FILE
    #[arg(short, long, value_name = "PATCH")]
    patch: Vec<String>,
    #[command(flatten)]
    way: Way,
}

/// Change fields of the config that machines have
#[derive(Debug, Args)]
pub struct Patch {
    /// YAML or @FILE; maps are merged, null removes, all else replaces
    #[arg(required = true)]
    patch: Vec<String>,
    #[command(flatten)]
    way: Way,
}

impl Apply {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let text = files::read_text(&self.file)?;
        let document = patched(&text, &self.file.display().to_string(), &self.patch)?;
        // What the machine would refuse is told here, with line and column.
        machine::config::load(&document, &self.file.display().to_string())?;
        let answers = world.connection.each_named(SLOW, async |session| apply(&session, document.clone(), &self.way).await).await?;
        report(answers, &self.way)
    }
}

impl Patch {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let change = async |session: Session| {
            let request = GetConfigRequest { generation: None };
            let current = session.ask(session.config().get(request)).await?.document;
            let document = patched(&String::from_utf8_lossy(&current), &session.node.to_string(), &self.patch)?;
            apply(&session, document, &self.way).await
        };
        report(world.connection.each_named(SLOW, change).await?, &self.way)
    }
}

/// The text with the patches in it; without patches it stays as it is, comments and all.
fn patched(text: &str, name: &str, patches: &[String]) -> Result<String, Failure> {
    if patches.is_empty() {
        return Ok(text.to_owned());
    }
    let mut document = yaml::read_one(text, name)?.value();
    for argument in patches {
        patch::merge(&mut document, &patch::read(argument)?);
    }
    Ok(yaml::print(&document))
}

async fn apply(session: &Session, document: String, way: &Way) -> Result<ApplyResponse, Failure> {
    let revert_after = way.try_for.and_then(|after| prost_types::Duration::try_from(after.0).ok());
    let request = ApplyRequest { document: document.into_bytes(), dry_run: way.dry_run, revert_after };
    session.ask(session.config().apply(request)).await
}

fn report(answers: Answers<ApplyResponse>, way: &Way) -> Result<(), Failure> {
    for (node, response) in &answers.done {
        if way.dry_run {
            write(&response.diff);
        }
        let outcome = match (way.dry_run, response.diff.is_empty() && response.plan.is_empty()) {
            (_, true) => "nothing changes".to_owned(),
            (true, _) => "would be done:".to_owned(),
            (false, _) if response.generation == 0 => {
                "is being installed, and reboots by itself; see machinectl get installations".to_owned()
            }
            (false, _) => format!("generation {} is in force", response.generation),
        };
        write(&format!("{node}: {outcome}\n"));
        response.plan.iter().for_each(|step| write(&format!("  {step}\n")));
        if response.needs_reboot {
            write(&format!("{node}: part of it takes effect at the next boot: machinectl reboot -n {node}\n"));
        }
    }
    if let (Some(after), false, false) = (way.try_for, way.dry_run, answers.done.is_empty()) {
        let nodes = answers.done.iter().map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(",");
        tell(&format!("it is taken back in {after} unless you confirm it: machinectl config confirm -n {nodes}"));
    }
    answers.outcome()
}
