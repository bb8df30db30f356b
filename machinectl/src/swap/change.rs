//! What is done to each machine: a new image by an update file, the other slot's again, or a reboot of what runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::{
    GetVersionResponse, ListResourcesRequest, OfferRequest, OfferResponse, RebootRequest, RollbackUpgradeRequest, StartUpgradeRequest,
    UpgradeProgress,
};
use indicatif::HumanBytes;
use machine::version::Minor;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};
use update::{Digest, UpdateFile};

use super::backoff::Backoff;
use super::fleet::Member;
use super::patches::{Forms, Made, Olds, Patches, Weight};
use super::record;
use super::upload::{self, PATIENCE};
use super::way::Way;
use crate::cli::World;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::session::Session;

/// What the user asks for.
#[derive(Debug)]
pub enum Wish {
    /// Each machine takes the one of its profile.
    Updates(Vec<Arc<Update>>),
    Rollback,
    Reboot {
        /// Also where etcd loses its quorum by it.
        force: bool,
    },
}

/// What that is on one machine.
#[derive(Debug, Clone)]
pub enum Change {
    Update(Arc<Update>),
    Rollback,
    Reboot { force: bool },
}

#[derive(Debug)]
pub struct Update {
    pub file: UpdateFile,
    /// For patches against the images that run.
    pub olds: Olds,
    pub made: Made,
    pub allow_downgrade: bool,
    pub retry_failed: bool,
    pub without_snapshot: bool,
}

/// What a machine answers to a dry run.
#[derive(Debug, Default)]
pub struct Planned {
    /// What is sent to it first, in words.
    pub send: Option<String>,
    /// What it will do then, in words.
    pub steps: Vec<String>,
    /// There is nothing to do.
    pub settled: bool,
    pub patches: Option<Arc<Patches>>,
    /// Of the image that will run; none without Kubernetes, or where the machine does not know.
    pub kubernetes: Option<Minor>,
}

impl Update {
    /// The name of the update in all calls but Offer.
    pub fn id(&self) -> String {
        self.file.manifest().id().to_string()
    }

    fn version(&self) -> String {
        self.file.manifest().peek().version.to_string()
    }

    pub fn profile(&self) -> &str {
        &self.file.manifest().peek().profile
    }

    /// Of the Kubernetes parts; none without them.
    fn kubernetes(&self) -> Option<Minor> {
        let version = self.file.manifest().peek().kubernetes.as_ref()?;
        Some(Minor { major: version.major, minor: version.minor })
    }

    pub fn offer(&self, dry_run: bool) -> OfferRequest {
        let manifest = self.file.manifest().bytes().to_vec();
        OfferRequest { manifest, dry_run, allow_downgrade: self.allow_downgrade, retry_failed: self.retry_failed }
    }

    async fn plan(self: &Arc<Update>, session: &Session, running: &GetVersionResponse) -> Result<Planned, Failure> {
        let offered = session.ask(session.upgrade().offer(self.offer(true))).await?;
        let missing = upload::digests(session, &offered.missing)?;
        let (update, root_hash, version) = (self.clone(), offered.running_root_hash.clone(), running.version.clone());
        // A machine that names no root hash takes no patches.
        let found = if missing.is_empty() || root_hash.is_empty() {
            Ok(None)
        } else {
            let make = move || update.made.of(&update.file, &update.olds, &root_hash, &version);
            tokio::task::spawn_blocking(make).await.map_err(|error| Failure::of("making patches", &error))?
        };
        Ok(self.planned(offered, &missing, found))
    }

    fn planned(self: &Arc<Update>, offered: OfferResponse, missing: &[Digest], found: Result<Option<Arc<Patches>>, String>) -> Planned {
        let OfferResponse { missing_bytes, total_bytes, plan, running, .. } = offered;
        let (patches, why_not) = found.map_or_else(|why_not| (None, Some(why_not)), |patches| (patches, None));
        let forms = Forms::new(self.clone(), patches.clone());
        let Weight { patches: patched, whole } = forms.weight(missing);
        let (lacked, all) = (HumanBytes(missing_bytes), HumanBytes(total_bytes));
        let send = match forms.against().filter(|_| patched > 0) {
            _ if missing.is_empty() => "send nothing: the machine has every chunk".to_owned(),
            Some(version) => {
                let rest = if whole > 0 { format!(" and {} in whole chunks", HumanBytes(whole)) } else { String::new() };
                format!("send {} as patches against {version}{rest}: the machine lacks {lacked} of {all}", HumanBytes(patched))
            }
            None => {
                let why_not = why_not.map(|why_not| format!("; no patches: {why_not}")).unwrap_or_default();
                format!("send {lacked} of {all} in chunks that the machine lacks{why_not}")
            }
        };
        Planned { send: Some(send), steps: plan, settled: running, patches, kubernetes: self.kubernetes() }
    }
}

impl Wish {
    /// A single file is offered to whatever machine: if it is for others, the machine says so.
    pub fn of(&self, session: &Session, version: &GetVersionResponse) -> Result<Change, Failure> {
        match self {
            Wish::Rollback => Ok(Change::Rollback),
            Wish::Reboot { force } => Ok(Change::Reboot { force: *force }),
            Wish::Updates(updates) => {
                let fits = |update: &&Arc<Update>| update.profile() == version.profile || updates.len() == 1;
                let update = updates.iter().find(fits).cloned().ok_or_else(|| {
                    let profiles = updates.iter().map(|update| update.profile()).collect::<Vec<_>>().join(", ");
                    let problem = format!("the machine runs profile {}; the update files are for {profiles}", version.profile);
                    Failure::new(&session.node, problem).remedy("add the update file of its profile")
                })?;
                Ok(Change::Update(update))
            }
        }
    }

    pub fn participle(&self) -> &'static str {
        match self {
            Wish::Updates(_) => "upgraded",
            Wish::Rollback => "rolled back",
            Wish::Reboot { .. } => "rebooted",
        }
    }
}

impl Change {
    /// Asks a machine what it would do, which shows as well whether it takes the change at all.
    pub async fn plan(&self, session: &Session, version: &GetVersionResponse) -> Result<Planned, Failure> {
        match self {
            Change::Update(update) => update.plan(session, version).await,
            Change::Reboot { force } => {
                let steps = session.ask(session.machine().reboot(RebootRequest { dry_run: true, force: *force })).await?.plan;
                Ok(Planned { steps, ..Planned::default() })
            }
            Change::Rollback => {
                let request = RollbackUpgradeRequest { dry_run: true, ..Default::default() };
                let mut answers = session.ask(session.upgrade().rollback(request)).await?;
                let mut steps = Vec::new();
                while let Some(answer) = answers.next().await {
                    steps.extend(answer.map_err(|status| session.failed(&status))?.plan);
                }
                Ok(Planned { steps, kubernetes: other_slots_kubernetes(session, version).await?, ..Planned::default() })
            }
        }
    }

    /// Brings to the machine what it lacks; it changes nothing of what runs.
    pub async fn prepare(&self, world: &World, member: &Member) -> Result<(), Failure> {
        match self {
            Change::Update(update) => {
                let forms = Forms::new(update.clone(), member.planned.patches.clone());
                upload::upload(&member.session, update, forms, world.quiet).await
            }
            Change::Rollback | Change::Reboot { .. } => Ok(()),
        }
    }

    /// Makes the other slot the next to boot, and reboots unless it is staged. After a connection that broke, the machine's record says
    /// whether it did; `before` are the records of earlier changes.
    pub async fn begin(&self, member: &Member, before: &BTreeSet<u64>, way: &Way, progress: &Progress) -> Result<(), Failure> {
        let mut backoff = Backoff::new(PATIENCE);
        loop {
            let status = match self.start(member, way, progress).await {
                Ok(()) => return Ok(()),
                Err(status) => status,
            };
            let failure = member.session.failed(&status);
            loop {
                // Whether it reboots is seen by its next boot.
                if Session::is_broken(&status) && matches!(self, Change::Reboot { .. }) {
                    return Ok(());
                }
                if !Session::is_broken(&status) || !backoff.wait().await {
                    return Err(failure);
                }
                match record::is_flipped(&member.session, before, way.stage).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => break,
                    Err(_) => {}
                }
            }
        }
    }

    async fn start(&self, member: &Member, way: &Way, progress: &Progress) -> Result<(), Status> {
        let (stage, reboot_mode, without_quorum) = (way.stage, way.reboot_mode().into(), way.without_quorum);
        let mut client = member.session.upgrade();
        let answers = match self {
            Change::Update(update) => {
                let without_snapshot = update.without_snapshot;
                let update = update.id();
                client.start(StartUpgradeRequest { update, dry_run: false, stage, reboot_mode, without_snapshot, without_quorum }).await?
            }
            Change::Reboot { force } => {
                return member.session.machine().reboot(RebootRequest { dry_run: false, force: *force }).await.map(drop);
            }
            Change::Rollback => client.rollback(RollbackUpgradeRequest { dry_run: false, stage, reboot_mode, without_quorum }).await?,
        };
        follow(answers.into_inner(), member, progress).await
    }
}

/// Of the slot that does not run, as the machine knows it.
async fn other_slots_kubernetes(session: &Session, version: &GetVersionResponse) -> Result<Option<Minor>, Failure> {
    let slots = session.ask(session.resource().list(ListResourcesRequest { kind: "slots".to_owned() })).await?.objects;
    let other = slots.into_iter().find(|slot| slot.name != version.slot);
    let status: Option<serde_json::Value> = other.and_then(|slot| slot.status).map(|status| api::json::from_struct(status).into());
    Ok(status.and_then(|status| status.get("kubernetes")?.as_str()?.parse().ok()))
}

/// Shows what the machine does until it is done.
async fn follow(mut answers: Streaming<UpgradeProgress>, member: &Member, progress: &Progress) -> Result<(), Status> {
    let mut told = String::new();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        let line = format!("{}: {}: {}", member.node(), answer.phase, answer.message);
        if line != told {
            progress.done(&line);
        }
        if answer.total_bytes > 0 {
            progress.wait_for(format!("{line} ({} of {})", HumanBytes(answer.done_bytes), HumanBytes(answer.total_bytes)));
        }
        told = line;
        if answer.finished {
            return Ok(());
        }
    }
    // As good as a broken connection: the machine's record says what became of it.
    Err(Status::unavailable("the machine ended the call before it was done"))
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

    /// What the machine is when it is done.
    pub fn awaited(&self) -> &'static str {
        match self {
            Change::Update(_) | Change::Rollback => "proven good or falls back",
            Change::Reboot { .. } => "healthy again",
        }
    }

    /// What will run, after the version that does.
    pub fn versions(&self, running: &str) -> String {
        match self {
            Change::Update(update) => format!("{running} -> {}", update.version()),
            Change::Rollback => format!("{running} -> the other slot"),
            Change::Reboot { .. } => running.to_owned(),
        }
    }

    fn target(&self, member: &Member) -> String {
        match self {
            Change::Update(update) => update.version(),
            Change::Reboot { .. } => member.version.version.clone(),
            Change::Rollback => format!("slot {}", if member.version.slot == "a" { "b" } else { "a" }),
        }
    }
}
