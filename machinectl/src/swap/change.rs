//! What is done to each machine: a new image by an update file, or the other slot's again.

use std::sync::Arc;

use api::v1::{OfferRequest, OfferResponse, RollbackUpgradeRequest, StartUpgradeRequest, UpgradeProgress};
use indicatif::HumanBytes;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};
use update::UpdateFile;

use super::backoff::Backoff;
use super::fleet::Member;
use super::upload::{self, PATIENCE};
use super::way::Way;
use crate::cli::World;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::session::Session;

#[derive(Debug)]
pub enum Change {
    Update(Update),
    Rollback,
}

#[derive(Debug)]
pub struct Update {
    pub file: Arc<UpdateFile>,
    pub allow_downgrade: bool,
    pub retry_failed: bool,
}

/// What a machine answers to a dry run.
#[derive(Debug, Default)]
pub struct Planned {
    /// What it will do, in words.
    pub steps: Vec<String>,
    /// There is nothing to do.
    pub settled: bool,
}

impl Update {
    /// The name of the update in all calls but Offer.
    pub fn id(&self) -> String {
        self.file.manifest().id().to_string()
    }

    fn version(&self) -> String {
        self.file.manifest().peek().version.to_string()
    }

    pub fn offer(&self, dry_run: bool) -> OfferRequest {
        let manifest = self.file.manifest().bytes().to_vec();
        OfferRequest { manifest, dry_run, allow_downgrade: self.allow_downgrade, retry_failed: self.retry_failed }
    }

    fn planned(&self, offered: OfferResponse) -> Planned {
        let OfferResponse { missing_bytes, total_bytes, missing, mut plan, running, .. } = offered;
        if !running {
            let send = format!(
                "send {} chunks, {} of {}: the machine has the others",
                missing.len(),
                HumanBytes(missing_bytes),
                HumanBytes(total_bytes)
            );
            plan.insert(0, if missing.is_empty() { "send nothing: the machine has every chunk".to_owned() } else { send });
        }
        Planned { steps: plan, settled: running }
    }
}

impl Change {
    /// Asks a machine what it would do, which shows as well whether it takes the change at all.
    pub async fn plan(&self, session: &Session) -> Result<Planned, Failure> {
        match self {
            Change::Update(update) => Ok(update.planned(session.ask(session.upgrade().offer(update.offer(true))).await?)),
            Change::Rollback => {
                let request = RollbackUpgradeRequest { dry_run: true, ..Default::default() };
                let mut answers = session.ask(session.upgrade().rollback(request)).await?;
                let mut steps = Vec::new();
                while let Some(answer) = answers.next().await {
                    steps.extend(answer.map_err(|status| session.failed(&status))?.plan);
                }
                Ok(Planned { steps, settled: false })
            }
        }
    }

    /// Brings to the machine what it lacks; it changes nothing of what runs.
    pub async fn prepare(&self, world: &World, member: &Member) -> Result<(), Failure> {
        match self {
            Change::Update(update) => upload::upload(&member.session, update, world.quiet).await,
            Change::Rollback => Ok(()),
        }
    }

    /// Makes the other slot the next to boot, and reboots unless it is staged. A connection that breaks is made anew: the calls may be
    /// repeated.
    pub async fn begin(&self, member: &Member, way: &Way, progress: &Progress) -> Result<(), Failure> {
        let mut backoff = Backoff::new(PATIENCE);
        let mut told = String::new();
        loop {
            let followed = match self.start(&member.session, way).await {
                Ok(answers) => follow(answers, member, &mut told, progress).await,
                Err(status) => Err(status),
            };
            match followed {
                Ok(Last::Finished) => return Ok(()),
                // Its reboot takes the connection with it.
                Ok(Last::Phase(phase)) | Err(Broken { phase, .. }) if phase == "booting" => return Ok(()),
                Ok(Last::Phase(_)) => return Err(Failure::new(member.node(), "the machine ended the call before it was done")),
                Err(Broken { status, .. }) if Session::is_broken(&status) && backoff.wait().await => {}
                Err(Broken { status, .. }) => return Err(member.session.failed(&status)),
            }
        }
    }

    async fn start(&self, session: &Session, way: &Way) -> Result<Streaming<UpgradeProgress>, Broken> {
        let (stage, reboot_mode) = (way.stage, way.reboot_mode().into());
        let answers = match self {
            Change::Update(update) => {
                session.upgrade().start(StartUpgradeRequest { update: update.id(), dry_run: false, stage, reboot_mode }).await
            }
            Change::Rollback => session.upgrade().rollback(RollbackUpgradeRequest { dry_run: false, stage, reboot_mode }).await,
        };
        answers.map(tonic::Response::into_inner).map_err(|status| Broken { phase: String::new(), status })
    }
}

/// How a stream of progress ended.
enum Last {
    Finished,
    /// Without the last message; the phase that was told last.
    Phase(String),
}

struct Broken {
    phase: String,
    status: Status,
}

/// Shows what the machine does until it is done.
async fn follow(
    mut answers: Streaming<UpgradeProgress>,
    member: &Member,
    told: &mut String,
    progress: &Progress,
) -> Result<Last, Broken> {
    let mut phase = String::new();
    while let Some(answer) = answers.next().await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => return Err(Broken { phase, status }),
        };
        let line = format!("{}: {}: {}", member.node(), answer.phase, answer.message);
        match answer.total_bytes {
            0 if *told != line => progress.done(&line),
            0 => {}
            total => progress.wait_for(format!("{line} ({} of {})", HumanBytes(answer.done_bytes), HumanBytes(total))),
        }
        (*told, phase) = (line, answer.phase);
        if answer.finished {
            return Ok(Last::Finished);
        }
    }
    Ok(Last::Phase(phase))
}

/// How it is told.
impl Change {
    /// Of a machine on which there is nothing to do.
    pub fn settled(&self, member: &Member) -> String {
        format!("runs {} already", self.target(member))
    }

    pub fn staged(&self, member: &Member) -> String {
        format!("boots {}", self.target(member))
    }

    pub fn begun(&self, member: &Member) -> String {
        format!("reboots into {}", self.target(member))
    }

    pub fn participle(&self) -> &'static str {
        match self {
            Change::Update(_) => "upgraded",
            Change::Rollback => "rolled back",
        }
    }

    /// What will run, after the version that does.
    pub fn from_to(&self, running: &str) -> String {
        match self {
            Change::Update(update) => format!("{running} -> {}", update.version()),
            Change::Rollback => format!("{running} -> the other slot"),
        }
    }

    fn target(&self, member: &Member) -> String {
        match self {
            Change::Update(update) => update.version(),
            Change::Rollback => format!("slot {}", if member.version.slot == "a" { "b" } else { "a" }),
        }
    }
}
