//! The life of the machine config: applied, tried, confirmed, rolled back, and found again at boot. Every change is a generation on STATE.
//!
//! Controllers never come here: they see the config in force through the node.

mod choice;
mod effects;
mod generations;
mod reading;
#[cfg(test)]
mod tests;
mod trials;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use controlplane::pki::{self, BACKDATE, Certificate};
use machine::config::{Config, diff};
use tokio::sync::{Mutex, watch};

use crate::clock::{Clock, wall_seconds};
use crate::failpoint::Failpoints;
use crate::identity;
use crate::install::{FirstConfig, Installer};
use crate::node::{Applied, Node};
use crate::refusal::Refusal;
use crate::stage::StageEvent;
use crate::state_record::Unreadable;
use crate::upgrade;
use choice::{Because, Choice, Usable};
pub use generations::{Current, Generations, Record, Trial};
pub use reading::masked;
use reading::{Reading, digest};

/// Largest config document.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// The machine's configs. Changes come one at a time.
#[derive(Debug)]
pub struct Configs {
    node: Node,
    clock: Clock,
    generations: Generations,
    installer: Installer,
    busy: Mutex<()>,
    trial: watch::Sender<Option<Trial>>,
}

/// A config that a user wants.
#[derive(Debug)]
pub struct Wanted {
    pub document: Vec<u8>,
    pub dry_run: bool,
    pub revert_after: Option<Duration>,
    /// Subject of the user's certificate, or `source: <name>`; empty in maintenance.
    pub by: String,
}

/// What a change does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In force after the call; 0 where the machine is installed with the config first.
    pub generation: u64,
    /// From the config in force to the wanted one, secrets masked; empty if nothing changes.
    pub diff: String,
    pub plan: Vec<String>,
    pub needs_reboot: bool,
}

/// How many lines a generation changed against the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    pub added: u32,
    pub removed: u32,
}

impl Lines {
    /// Counts those of a unified diff.
    fn of(diff: &str) -> Lines {
        let count = |mark: char| diff.lines().skip(2).filter(|line| line.starts_with(mark)).count() as u32;
        Lines { added: count('+'), removed: count('-') }
    }
}

/// What was found on STATE at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No config was ever applied: maintenance.
    Nothing,
    /// A config is in force.
    Config,
    /// The machine has an identity, but no config that can be used: recovery.
    Unusable,
}

impl Configs {
    pub fn new(node: Node, clock: Clock) -> Configs {
        let generations = Generations::new(node.root.config_directory());
        let installer = Installer::new(node.clone(), Failpoints::default());
        Configs { node, clock, generations, installer, busy: Mutex::new(()), trial: watch::Sender::new(None) }
    }

    /// Cuts changes and installations where a test says so.
    pub fn with_failpoints(self, failpoints: Failpoints) -> Configs {
        let generations = self.generations.with_failpoints(failpoints.clone());
        Configs { generations, installer: Installer::new(self.node.clone(), failpoints), ..self }
    }

    /// Puts the config on STATE in force: the current generation, the one before a trial that a reboot ended, or the newest that is good.
    pub async fn load(&self) -> Result<Found, Refusal> {
        let _busy = self.busy.lock().await;
        let (generations, boot_id) = (self.generations.clone(), self.clock.boot_id.clone());
        let held = identity::has_certificate(&self.node.root);
        let (choice, pointer) = blocking(move || {
            let pointer = generations.current();
            let usable = |number| match generations.document(number) {
                Err(error) if Unreadable::is_newer(&error) => Usable::Newer,
                Err(_) => Usable::No,
                Ok(text) => reading::usable(&text),
            };
            let choice = choice::choose(&pointer, &generations.numbers()?, usable, held, &boot_id);
            Ok((choice, pointer))
        })
        .await?;
        match choice {
            Choice::Nothing => Ok(Found::Nothing),
            Choice::Unusable => {
                let problem = "no generation of the machine config on STATE can be used";
                self.node.events.emit("config", "Unusable", problem);
                self.node
                    .console
                    .print(&format!("recovery: {problem}; apply one, upgrade to an image that can use it, or reset the machine"));
                self.node.happened(StageEvent::ConfigUnusable);
                Ok(Found::Unusable)
            }
            Choice::Use { generation, because } => {
                self.put_in_force(generation, because, pointer.ok().flatten()).await?;
                Ok(Found::Config)
            }
        }
    }

    async fn put_in_force(&self, generation: u64, because: Because, pointer: Option<Current>) -> Result<(), Refusal> {
        let config = self.read(generation).await?.config;
        let trial = match because {
            Because::Current => pointer.and_then(|pointer| pointer.trial),
            Because::TrialEndedByReboot | Because::Broken => {
                self.node.events.emit(format!("config/{generation}"), because.word(), because.message(generation));
                self.node.console.print(&because.message(generation));
                self.point(Current::lasting(generation)).await?;
                None
            }
            // What the newer release wrote is its own to go on with.
            Because::Newer => {
                self.node.events.emit(format!("config/{generation}"), because.word(), because.message(generation));
                self.node.console.print(&because.message(generation));
                None
            }
        };
        self.trial.send_replace(trial);
        self.enforce(generation, config);
        Ok(())
    }

    /// Checks a config, keeps it as a new generation and puts it in force. The same config again changes nothing.
    pub async fn apply(&self, wanted: Wanted) -> Result<Outcome, Refusal> {
        let _busy = self.busy.lock().await;
        self.apply_alone(wanted).await
    }

    /// The same for a config that no caller sent: a source outside the machine holds it, and `by` names the source. It can only be the first
    /// one, whoever else applies one in the meantime.
    pub async fn apply_first(&self, document: Vec<u8>, by: String) -> Result<Outcome, Refusal> {
        let _busy = self.busy.lock().await;
        if identity::configured(&self.node) {
            let problem = "the machine has a config or an identity already".to_owned();
            return Err(Refusal::NotPermitted { problem, remedy: "change the config by machinectl apply".to_owned() });
        }
        self.apply_alone(Wanted { document, dry_run: false, revert_after: None, by }).await
    }

    /// Applies while no other change is under way.
    async fn apply_alone(&self, wanted: Wanted) -> Result<Outcome, Refusal> {
        let text = text_of(wanted.document)?;
        let revert_after = wanted.revert_after.map(trials::length).transpose()?;
        let now = self.current().await?;
        self.require_fitting(&wanted.by, now.is_some(), revert_after.is_some())?;
        let reading = reading::read(&text)?;
        let outcome = self.compare(now.as_ref(), &reading)?;
        if self.installer.is_wanted() {
            return self.install(reading, wanted.by, wanted.dry_run, outcome).await;
        }
        if revert_after.is_some() && outcome.needs_reboot {
            return Err(Refusal::field(
                "revert_after",
                "part of the config takes effect at the next boot only, which would end the trial; leave it out",
            ));
        }
        let unchanged = now.as_ref().is_some_and(|(_, current)| digest(&current.text) == digest(&text));
        if wanted.dry_run || unchanged {
            return Ok(outcome);
        }
        self.require_state()?;
        let generation = self.keep(reading, &wanted.by, revert_after).await?;
        Ok(Outcome { generation, ..outcome })
    }

    /// Puts the machine onto a disk, on which it boots with the config.
    async fn install(&self, reading: Reading, by: String, dry_run: bool, outcome: Outcome) -> Result<Outcome, Refusal> {
        let begun = async {
            let plan = self.installer.plan(&reading.config).await?;
            let words = plan.words();
            if !dry_run {
                self.installer.begin(plan, FirstConfig { text: reading.text, by }).await?;
            }
            Ok(words)
        };
        let plan = begun.await.inspect_err(|refusal| {
            if !dry_run {
                self.installer.refused(refusal);
            }
        })?;
        Ok(Outcome { generation: 0, plan, ..outcome })
    }

    /// Makes an earlier generation's config the newest generation. `None` is the one before the current.
    pub async fn rollback(&self, to: Option<u64>, dry_run: bool, by: &str) -> Result<Outcome, Refusal> {
        let _busy = self.busy.lock().await;
        let in_force = self.in_force()?;
        let numbers = self.generations.numbers()?;
        let to = to.or_else(|| numbers.range(..in_force).next_back().copied());
        let to = to.filter(|number| numbers.contains(number)).ok_or_else(|| no_generation(to))?;
        let reading = self.read(to).await?;
        let now = self.current().await?;
        let outcome = self.compare(now.as_ref(), &reading)?;
        if dry_run || outcome.diff.is_empty() {
            return Ok(outcome);
        }
        self.require_state()?;
        let generation = self.keep(reading, by, None).await?;
        Ok(Outcome { generation, ..outcome })
    }

    /// The document of a generation; `None` is the one in force.
    pub async fn document(&self, generation: Option<u64>) -> Result<(u64, String), Refusal> {
        let number = generation.map_or_else(|| self.in_force(), Ok)?;
        if !self.generations.numbers()?.contains(&number) {
            return Err(no_generation(Some(number)));
        }
        let generations = self.generations.clone();
        Ok((number, blocking(move || generations.document(number)).await?))
    }

    /// All generations that are kept, oldest first, each with what it changed; and the trial under way.
    pub async fn list(&self) -> Result<(Vec<(Record, Lines)>, Option<Trial>), Refusal> {
        let generations = self.generations.clone();
        let records = blocking(move || {
            let records = generations.list()?;
            let documents: Vec<Option<String>> = records.iter().map(|record| generations.document(record.number).ok()).collect();
            let mut before = None;
            let lines = documents.iter().map(|document| std::mem::replace(&mut before, document.as_ref()).zip(document.as_ref()));
            let lines: Vec<Lines> = lines.map(|pair| pair.map_or_else(Lines::default, |(old, new)| Lines::of(&diff(old, new)))).collect();
            Ok(records.into_iter().zip(lines).collect())
        })
        .await?;
        Ok((records, self.trial.borrow().clone()))
    }

    /// How one generation differs from another: both, and a unified diff with secrets masked. `to` is the one in force where it is not
    /// given, `from` the one that is kept before it.
    pub async fn diff(&self, from: Option<u64>, to: Option<u64>) -> Result<(u64, u64, String), Refusal> {
        let to = to.map_or_else(|| self.in_force(), Ok)?;
        let from = from.or_else(|| self.generations.numbers().ok()?.range(..to).next_back().copied());
        let from = from.ok_or_else(|| no_generation(None))?;
        let ((_, old), (_, new)) = (self.document(Some(from)).await?, self.document(Some(to)).await?);
        Ok((from, to, diff(&old, &new)))
    }

    /// Writes a new generation, makes it the current one, and puts it in force.
    async fn keep(&self, reading: Reading, by: &str, revert_after: Option<Duration>) -> Result<u64, Refusal> {
        let trial = revert_after.and_then(|after| self.trial_of(after));
        let (generations, text, by) = (self.generations.clone(), reading.text, by.to_owned());
        let (kept_trial, root) = (trial.clone(), self.node.root.clone());
        let generation = blocking(move || {
            let generation = generations.add(&text, &by, wall_seconds())?;
            generations.point(&Current::tried(generation, kept_trial))?;
            generations.prune(&upgrade::pinned_generations(&root))?;
            Ok(generation)
        })
        .await?;
        let tried = revert_after.map(|after| format!(", for {} seconds unless confirmed", after.as_secs())).unwrap_or_default();
        self.node.events.emit(format!("config/{generation}"), "Applied", format!("generation {generation} is in force{tried}"));
        self.trial.send_replace(trial);
        self.enforce(generation, reading.config);
        Ok(generation)
    }

    fn enforce(&self, generation: u64, config: Config) {
        crate::clock::raise(floor(&config));
        self.node.set_config(Applied { generation, config: Arc::new(config) });
        self.node.happened(StageEvent::ConfigInForce);
    }

    fn compare(&self, now: Option<&(u64, Reading)>, wanted: &Reading) -> Result<Outcome, Refusal> {
        let (generation, current) = now.map_or((0, None), |(generation, reading)| (*generation, Some(reading)));
        let difference = reading::compare(current, wanted)?;
        let mut plan = effects::plan(current.map(|reading| &reading.config), &wanted.config);
        plan.extend(difference.needs_reboot.iter().map(|field| format!("{field} takes effect at the next boot")));
        Ok(Outcome { generation, diff: difference.diff, plan, needs_reboot: !difference.needs_reboot.is_empty() })
    }

    async fn current(&self) -> Result<Option<(u64, Reading)>, Refusal> {
        match self.node.config() {
            Some(applied) => Ok(Some((applied.generation, self.read(applied.generation).await?))),
            None => Ok(None),
        }
    }

    async fn read(&self, generation: u64) -> Result<Reading, Refusal> {
        let generations = self.generations.clone();
        let text = blocking(move || generations.document(generation)).await?;
        reading::read(&text)
    }

    async fn point(&self, current: Current) -> Result<(), Refusal> {
        let generations = self.generations.clone();
        blocking(move || generations.point(&current)).await
    }

    fn in_force(&self) -> Result<u64, Refusal> {
        let none = || Refusal::state("NO_CONFIG", "the machine has no config yet", "apply one: machinectl apply");
        self.node.config().map(|applied| applied.generation).ok_or_else(none)
    }

    /// Whether this caller may apply now, and try. Two strangers may have come at once: the second finds a configured machine.
    fn require_fitting(&self, by: &str, configured: bool, tried: bool) -> Result<(), Refusal> {
        if configured && by.is_empty() {
            let problem = "the machine has a config already".to_owned();
            return Err(Refusal::NotPermitted { problem, remedy: "connect again with a client certificate of role os:admin".to_owned() });
        }
        if !configured && tried {
            return Err(Refusal::field("revert_after", "the first config has nothing to go back to; leave it out"));
        }
        Ok(())
    }

    /// What is not kept on STATE would be gone after a reboot.
    fn require_state(&self) -> Result<(), Refusal> {
        identity::state_problem(&self.node).map_or(Ok(()), |problem| {
            Err(Refusal::state("STATE_CLOSED", problem, "see the console and machinectl get volumes for what is wrong with the disk"))
        })
    }
}

/// The time at which the config's authorities were made: it is later now, whatever the clock says. A clock that starts before it would have
/// the machine refuse everybody's certificates, its own included.
fn floor(config: &Config) -> SystemTime {
    let authorities = config.cluster.certificate_authorities.named();
    let begin = |pem: &str| Some(Certificate::inspect(pem).ok()?.not_before + BACKDATE);
    let all = authorities.iter().flat_map(|(_, authority)| pki::each(&authority.certificate));
    all.filter_map(begin).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn text_of(document: Vec<u8>) -> Result<String, Refusal> {
    if document.len() > MAX_DOCUMENT_BYTES {
        let text = format!("{} bytes; expected at most {MAX_DOCUMENT_BYTES}", document.len());
        return Err(Refusal::field("document", text));
    }
    String::from_utf8(document).map_err(|error| Refusal::field("document", format!("{error}; expected UTF-8 text")))
}

fn no_generation(number: Option<u64>) -> Refusal {
    let what = number.map_or("an earlier generation".to_owned(), |number| format!("generation {number}"));
    Refusal::not_found(what, "see those that are kept: machinectl get generations")
}

/// Runs what writes to the disk off the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Result<T, Refusal> {
    let joined = tokio::task::spawn_blocking(work).await;
    Ok(joined.map_err(anyhow::Error::from)??)
}

/// Whether this directory holds any machine config.
pub fn exists(directory: &Path) -> bool {
    Generations::new(directory.to_owned()).has_current()
}
