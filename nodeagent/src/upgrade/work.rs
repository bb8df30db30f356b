//! What callers ask for: an offer, the start, a rollback. Whatever changes a slot goes on when its caller goes away.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use machine::config::{Config, Role};
use machine::protocol::PowerAction;
use tokio::sync::OwnedMutexGuard;
use update::{Digest, PublicKey, Running, TrustedKeys, Version};

use super::offer::{How, Seen, Taken, Wanted, judge};
use super::phase::{Event, Phase};
use super::records::{Kind, Reason, Record};
use super::session::{Session, look, room};
use super::start::{Circumstances, WayBack, begin_back, flip, go_back, new_record, numbered, verify, way_back};
use super::survey::Survey;
use super::swap::Swap;
use super::{Upgrades, blocking, restraint, snapshot};
use crate::clock::wall_seconds;
use crate::config::Generations;
use crate::controllers::overlay::reach;
use crate::controllers::pki::Keyring;
use crate::etcd;
use crate::gate;
use crate::power::Descent;
use crate::power::parting::Parting;
use crate::refusal::Refusal;
use crate::resources::bootstrap;
use crate::resources::cluster::ApiServer;
use crate::stage::StageEvent;

/// How long etcd may take to make its data readable to an older one; it looks every four seconds.
const HELD_WITHIN: Duration = Duration::from_secs(60);
const HELD_EVERY: Duration = Duration::from_millis(500);

/// What is under way.
#[derive(Debug, Default)]
pub struct Work {
    /// The update that was offered last.
    pub session: Option<Session>,
    /// What a dry run found, so that the offer that follows it need not look again.
    looked: Option<(Digest, Survey)>,
    /// Counts offers: an upload for one before ends.
    pub offers: u64,
}

type Guard = OwnedMutexGuard<Work>;

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub update: Digest,
    pub version: String,
    /// In the order in which the parts need them.
    pub missing: Vec<Digest>,
    pub total_bytes: u64,
    pub missing_bytes: u64,
    pub plan: Vec<String>,
    /// This image runs already.
    pub running: bool,
    /// Of the image that runs.
    pub running_root_hash: String,
}

/// What Start and Rollback are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Leave it to the next reboot.
    pub stage: bool,
    /// Do not wait for pods.
    pub fast: bool,
    /// Of an upgrade: do not save etcd's data first.
    pub without_snapshot: bool,
    /// Whatever becomes of etcd's quorum while the machine reboots.
    pub without_quorum: bool,
    /// The caller's identity.
    pub by: String,
}

/// What was done, in words, and whether the machine is to reboot now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub phase: Phase,
    pub message: String,
    pub reboot: bool,
}

impl Upgrades {
    /// Judges an update, takes the other slot out of the boot order and copies into it what the machine has.
    pub async fn offer(&self, wanted: Wanted) -> Result<Offered, Refusal> {
        let swap = self.swap()?.clone();
        self.require_state()?;
        let keys = self.trusted_keys()?;
        let mut work = self.work.clone().lock_owned().await;
        let reporter = self.reporter.clone();
        // The guard goes along: were the caller to go away, the next one still waits until the slot is left alone.
        let answer = blocking(move || {
            let seen = see(&swap, keys)?;
            Ok(judge(&wanted, &seen).and_then(|taken| answer(&swap, &mut work, taken, &wanted, &reporter)))
        });
        let answer = answer.await?;
        self.publish().await;
        answer
    }

    /// What Start would do.
    pub async fn plan_start(&self, update: &str, asked: &Asked) -> Result<Vec<String>, Refusal> {
        let swap = self.swap()?.clone();
        let work = self.work.lock().await;
        let staged = staged(&swap, update)?;
        if !staged {
            let session = complete(&work, update)?;
            return Ok(plan(&session.manifest.version.to_string(), &swap, asked));
        }
        Ok(reboot_plan(asked))
    }

    /// Verifies what was written and has the next boot try it. The caller reboots if that is what is left to do.
    pub async fn start(self: Arc<Self>, update: String, asked: Asked) -> Result<Done, Refusal> {
        let swap = self.swap()?.clone();
        self.require_state()?;
        self.require_quorum(&asked).await?;
        let work = self.work.clone().lock_owned().await;
        if !staged(&swap, &update)? {
            complete(&work, &update)?;
            let before = self.node.stage();
            self.node.happened(StageEvent::UpgradeBegan);
            let flipped = self.verify_and_flip(swap.clone(), work, &asked).await;
            self.node.happened(StageEvent::UpgradeEnded { before });
            self.publish().await;
            flipped?;
        }
        self.after_flip(swap, &asked).await
    }

    /// Whether etcd can do without this machine while it reboots, unless that is left to a later reboot.
    async fn require_quorum(&self, asked: &Asked) -> Result<(), Refusal> {
        if asked.stage {
            return Ok(());
        }
        let refused = |refusal| match refusal {
            Refusal::State { reason, problem, .. } => {
                let remedy = "repair the others first (machinectl etcd members), or accept with --without-quorum that the Kubernetes API is away \
                              meanwhile";
                Refusal::state(reason, problem, remedy)
            }
            other => other,
        };
        Parting::observe(&self.node, &[]).await.accepted(asked.without_quorum).map(drop).map_err(refused)
    }

    async fn verify_and_flip(&self, swap: Swap, mut work: Guard, asked: &Asked) -> Result<(), Refusal> {
        let (reporter, circumstances) = (self.reporter.clone(), self.circumstances(asked).await);
        reporter.tell(Phase::Verifying, "reading the slot back");
        let (work, verified) = {
            let swap = swap.clone();
            blocking(move || {
                let verified = verified(&swap, &mut work, &reporter);
                Ok((work, verified))
            })
            .await?
        };
        let number = verified?;
        self.take_snapshot(number, asked).await?;
        let reporter = self.reporter.clone();
        blocking(move || {
            let mut work = work;
            let session = work.session.as_ref().context("the offered update is gone")?;
            flip(&swap, session, &circumstances)?;
            reporter.tell(Phase::Ready, format!("the next boot tries {}", session.manifest.version));
            work.session = None;
            Ok(())
        })
        .await
    }

    /// A copy of the cluster's data, on a machine that holds it, before another image may touch it.
    async fn take_snapshot(&self, number: u64, asked: &Asked) -> Result<(), Refusal> {
        if asked.without_snapshot {
            return Ok(());
        }
        let Some(applied) = self.node.config().filter(|_| bootstrap::is_done(&self.node.store)) else { return Ok(()) };
        if applied.config.machine.role != Role::ControlPlane {
            return Ok(());
        }
        let remedy = "see machinectl services and the log of etcd; the slot stays as it is, and start can be repeated. A cluster that has lost \
                      its quorum can be mended by an image that is taken without a snapshot: --without-snapshot";
        let unable = |problem: String| Refusal::state("NO_SNAPSHOT", format!("etcd's data cannot be saved first: {problem}"), remedy);
        let certificate = Keyring::default().get(&self.node, CertificateId::EtcdHealthClient);
        let certificate = certificate.ok_or_else(|| unable("the agent has no certificate for it yet".to_owned()))?;
        self.reporter.tell(Phase::Verifying, "saving etcd's data");
        let (access, name) = (etcd::access(&applied.config, &certificate), format!("upgrade-{number}.db"));
        let size = snapshot::take(access, &self.node.root.etcd_snapshots(), &name).await.map_err(|error| unable(format!("{error:#}")))?;
        self.node.events.emit("machine", "Snapshot", format!("etcd's data is saved in {name}: {size} bytes"));
        Ok(())
    }

    /// What a rollback would do.
    pub async fn plan_rollback(&self, asked: &Asked) -> Result<Vec<String>, Refusal> {
        let swap = self.swap()?.clone();
        let way = blocking(move || Ok(find_way(&swap))).await??;
        Ok(match way {
            Way::GiveUp { version } => {
                vec![format!("give up {version}, which is on trial"), "put the config of before in force".to_owned(), "reboot".to_owned()]
            }
            Way::Back(way) => {
                let mut plan = vec![format!("have the next boot try {} in slot {}", way.slot.image_version, way.slot.slot.name())];
                plan.push(match way.generation {
                    Some(generation) => format!("put config generation {generation} in force, with which it ran last"),
                    None => "keep the config: the one with which it ran last is not kept any more".to_owned(),
                });
                plan.extend(reboot_plan(asked));
                plan
            }
        })
    }

    /// Has the next boot try the other slot, or gives up a running image that is on trial.
    pub async fn rollback(self: Arc<Self>, asked: Asked) -> Result<Done, Refusal> {
        let swap = self.swap()?.clone();
        self.require_state()?;
        self.require_quorum(&asked).await?;
        let mut work = self.work.clone().lock_owned().await;
        let looking = swap.clone();
        let way = match blocking(move || Ok(find_way(&looking))).await?? {
            Way::GiveUp { .. } => {
                let message = format!("{} asked for a rollback", asked.by);
                self.fail(Reason { check: "rollback".to_owned(), message, log_tail: Vec::new() }).await?;
                let message = "the image on trial is given up".to_owned();
                return Ok(Done { phase: Phase::Failed, message, reboot: !asked.stage });
            }
            Way::Back(way) => way,
        };
        let (going, back, by) = (swap.clone(), way.clone(), asked.by.clone());
        let begun = blocking(move || {
            work.session = None;
            replace_current(&going)?;
            Ok((work, begin_back(&going, &back, &by)?))
        });
        let (work, begun) = begun.await?;
        self.publish().await;
        if let Err(refusal) = self.until_held(&swap, &begun).await {
            blocking(move || replace_current(&swap)).await?;
            self.publish().await;
            return Err(refusal);
        }
        let (going, circumstances) = (swap.clone(), self.circumstances(&asked).await);
        let record = blocking(move || {
            let _work = work;
            go_back(&going, begun, &way, &circumstances)
        });
        let record = record.await?;
        self.reporter.tell(record.phase, format!("the next boot tries {}", record.to_version));
        self.after_flip(swap, &asked).await
    }

    /// Waits until the controller etcdhold has had etcd's data made readable to the image that is gone back to, where that has an older etcd.
    async fn until_held(&self, swap: &Swap, record: &Record) -> Result<(), Refusal> {
        let Some(applied) = self.node.config().filter(|_| bootstrap::is_done(&self.node.store)) else { return Ok(()) };
        let Some(version) = restraint::decide(Some(record), &swap.image).etcd else { return Ok(()) };
        self.reporter.tell(Phase::Verifying, format!("making etcd's data readable to etcd {version}"));
        let mut keyring = Keyring::default();
        let mut trouble = "the agent has no certificate for it yet".to_owned();
        let held = async {
            loop {
                if let Some(certificate) = keyring.get(&self.node, CertificateId::EtcdHealthClient) {
                    match etcd::versions(etcd::access(&applied.config, &certificate)).await {
                        Ok(versions) if versions.storage == Some(version) => return,
                        Ok(_) => trouble = "its storage has a newer version still".to_owned(),
                        Err(error) => trouble = format!("{error:#}"),
                    }
                }
                tokio::time::sleep(HELD_EVERY).await;
            }
        };
        match tokio::time::timeout(HELD_WITHIN, held).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let problem = format!("etcd's data cannot be made readable to etcd {version}, which the other slot has: {trouble}");
                let remedy = "see machinectl get controllers etcdhold, and the log of etcd; nothing was changed";
                Err(Refusal::state("ETCD_NOT_HELD", problem, remedy))
            }
        }
    }

    /// Begins the reboot that was left to do.
    pub fn reboot(&self, asked: &Asked) {
        let descent = Descent { action: PowerAction::Reboot, wipe: Vec::new(), by: asked.by.clone(), force: true };
        self.power.begin(descent, !asked.fast);
    }

    async fn after_flip(&self, swap: Swap, asked: &Asked) -> Result<Done, Refusal> {
        let stage = asked.stage;
        let record = blocking(move || {
            let mut record = swap.records.current()?.context("the record of the upgrade is gone")?;
            if !stage && record.happened(Event::RebootAsked) {
                swap.records.put(&record)?;
                swap.failpoints.reach("start::reboot-recorded")?;
            }
            Ok(record)
        });
        let record = record.await?;
        let message = match stage {
            true => format!("the next reboot tries {}", record.to_version),
            false => format!("rebooting into {}", record.to_version),
        };
        self.reporter.tell(record.phase, &message);
        self.node.events.emit("machine", "Upgrade", &message);
        self.publish().await;
        Ok(Done { phase: record.phase, message, reboot: !stage })
    }

    async fn circumstances(&self, asked: &Asked) -> Circumstances {
        let tells = || self.reporter.tell(Phase::Verifying, "trying whether pods start in the running image");
        let pods = gate::pods_start(&self.node, tells).await;
        if let Some(Err(problem)) = &pods {
            tracing::warn!("pods do not start in the running image either, and the next one is not blamed for it: {problem}");
        }
        Circumstances {
            by: asked.by.clone(),
            cluster_reachable: ApiServer::any_ready(&self.node.store),
            pods_fail: matches!(pods, Some(Err(_))),
            overlay_peers: reach::answering(&self.node).await.into_iter().collect(),
            tries: self.tries(),
            without_snapshot: asked.without_snapshot,
        }
    }

    /// How often the boot loader tries an image before it takes the one before.
    fn tries(&self) -> u32 {
        self.node.config().map(|applied| applied.config.machine.health.clone()).unwrap_or_default().tries.into()
    }

    /// The image's keys and those of the machine config. An image without keys takes what the config's keys sign.
    fn trusted_keys(&self) -> Result<TrustedKeys, Refusal> {
        let path = self.node.root.update_keys();
        let keys = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => TrustedKeys { threshold: 1, keys: Vec::new() },
            Err(error) => return Err(Refusal::Internal(anyhow::Error::from(error).context(format!("reading {}", path.display())))),
            Ok(text) => TrustedKeys::parse(&text).with_context(|| format!("reading {}", path.display()))?,
        };
        Ok(keys.with(self.node.config().map(|applied| config_keys(&applied.config)).unwrap_or_default()))
    }
}

fn config_keys(config: &Config) -> Vec<PublicKey> {
    config.machine.upgrade.trusted_keys.iter().filter_map(|key| key.parse().ok()).collect()
}

fn see(swap: &Swap, keys: TrustedKeys) -> anyhow::Result<Seen> {
    let version = &swap.image.version;
    let running = Running {
        version: Version::parse(version).with_context(|| format!("version {version:?} of the running image"))?,
        profile: swap.image.profile.clone(),
        architecture: swap.image.architecture.clone(),
        root_hash: swap.root_hash.parse().ok(),
        config_version: config_version(swap),
    };
    let on_trial = swap.on_trial(&swap.esp.entries()?);
    Ok(Seen { keys, now: wall_seconds(), running, on_trial, records: swap.records.list()?, room: room(swap)? })
}

/// Of the config that the new image will find.
fn config_version(swap: &Swap) -> Option<String> {
    let document = Generations::new(swap.root.config_directory()).document(swap.lasting_generation()).ok()?;
    machine::config::api_version(document)
}

fn answer(swap: &Swap, work: &mut Work, taken: Taken, wanted: &Wanted, reporter: &super::Reporter) -> Result<Offered, Refusal> {
    let Taken { update, manifest, how } = taken;
    let version = manifest.version.to_string();
    let total_bytes = manifest.distinct_chunks().iter().map(|chunk| u64::from(chunk.size)).sum();
    let nothing = |running, plan| Offered {
        update,
        version: version.clone(),
        missing: Vec::new(),
        total_bytes,
        missing_bytes: 0,
        plan,
        running,
        running_root_hash: swap.root_hash.clone(),
    };
    match how {
        How::Runs => return Ok(nothing(true, vec![format!("nothing: {version} runs already")])),
        How::Staged => return Ok(nothing(false, reboot_plan(&Asked::default()))),
        How::Resume(_) | How::New { .. } => {}
    }
    let looked = work.looked.take().filter(|(known, _)| *known == update).map(|(_, survey)| survey);
    let survey = looked.map_or_else(|| look(swap, &manifest, reporter), Ok)?;
    let missing = if wanted.dry_run {
        let missing = survey.missing.clone();
        work.looked = Some((update, survey));
        missing
    } else {
        let number = open_record(swap, &how, &version, update, &manifest.root_hash.to_string(), &wanted.by)?;
        work.offers += 1;
        work.session = None;
        reporter.tell(Phase::Writing, format!("writing {version} into slot {}", swap.other().name()));
        let session = Session::begin(swap, (update, manifest, number), survey, reporter)?;
        work.session.insert(session).missing()
    };
    Ok(Offered {
        update,
        missing_bytes: missing.iter().map(|chunk| u64::from(chunk.size)).sum(),
        missing: missing.into_iter().map(|chunk| chunk.sha256).collect(),
        total_bytes,
        plan: plan(&version, swap, &Asked::default()),
        version,
        running: false,
        running_root_hash: swap.root_hash.clone(),
    })
}

/// The record of what begins, or goes on.
fn open_record(swap: &Swap, how: &How, version: &str, update: Digest, root_hash: &str, by: &str) -> anyhow::Result<u64> {
    let record = match how {
        How::Resume(number) => {
            let mut record = numbered(swap, *number)?;
            record.happened(Event::Resumed);
            record
        }
        _ => {
            replace_current(swap)?;
            let mut record = new_record(swap, Kind::Upgrade, version, root_hash, by)?;
            record.update = update.to_string();
            record
        }
    };
    swap.records.put(&record)?;
    swap.failpoints.reach("offer::recorded")?;
    Ok(record.number)
}

/// What was under way gives way.
fn replace_current(swap: &Swap) -> anyhow::Result<()> {
    let Some(mut record) = swap.records.current()? else { return Ok(()) };
    record.ended(Event::Replaced, wall_seconds());
    swap.records.put(&record)
}

/// Whether the next boot tries this update already.
fn staged(swap: &Swap, update: &str) -> anyhow::Result<bool> {
    let record = swap.records.current()?;
    Ok(record.is_some_and(|record| record.update == update && matches!(record.phase, Phase::Ready | Phase::Booting)))
}

/// The session of this update, with nothing missing.
fn complete<'a>(work: &'a Work, update: &str) -> Result<&'a Session, Refusal> {
    let session = offered(work, update)?;
    match session.missing_count() {
        0 => Ok(session),
        count => {
            let problem = format!("{count} chunks of the update are missing");
            Err(Refusal::state("CHUNKS_MISSING", problem, "offer the update again and upload what it lacks"))
        }
    }
}

/// The session of this update.
pub fn offered<'a>(work: &'a Work, update: &str) -> Result<&'a Session, Refusal> {
    let found = work.session.as_ref().filter(|session| session.update.to_string() == update);
    found.ok_or_else(|| {
        let problem = format!("update {update:?} is not the one that was offered last");
        Refusal::state("OFFER_FIRST", problem, "offer the update again: what was written is not lost")
    })
}

/// Writes what is not sent, and verifies; the number of the record.
fn verified(swap: &Swap, work: &mut Work, reporter: &super::Reporter) -> Result<u64, Refusal> {
    let session = work.session.as_mut().context("the offered update is gone")?;
    session.make_tree(swap, reporter)?;
    let session = &*session;
    let mut record = numbered(swap, session.number)?;
    record.happened(Event::VerifyAsked);
    swap.records.put(&record)?;
    swap.failpoints.reach("start::verifying")?;
    if let Err(refusal) = verify(swap, session, reporter) {
        record.happened(Event::VerifyFailed);
        swap.records.put(&record)?;
        reporter.tell(record.phase, refusal.to_string());
        // What was believed to be there is not: the next offer looks again.
        (work.session, work.looked) = (None, None);
        return Err(refusal);
    }
    Ok(record.number)
}

enum Way {
    GiveUp { version: String },
    Back(WayBack),
}

fn find_way(swap: &Swap) -> Result<Way, Refusal> {
    let entries = swap.esp.entries()?;
    if swap.on_trial(&entries) {
        return Ok(Way::GiveUp { version: swap.image.version.clone() });
    }
    way_back(swap, &entries).map(Way::Back)
}

fn plan(version: &str, swap: &Swap, asked: &Asked) -> Vec<String> {
    let slot = swap.other().name();
    let mut plan = vec![
        format!("write what is missing of {version} into slot {slot}"),
        "read the slot back and compare it with what was signed".to_owned(),
    ];
    if asked.without_snapshot {
        plan.push("save nothing of etcd's data: if the new image spoils it, there is no way back to it".to_owned());
    }
    plan.push(format!("have the boot loader try it, and count the tries; slot {} stays as it is", swap.running.name()));
    plan.extend(reboot_plan(asked));
    plan.push("keep it if the health gate passes, else go back to the image and the config of now".to_owned());
    plan
}

fn reboot_plan(asked: &Asked) -> Vec<String> {
    vec![match (asked.stage, asked.fast) {
        (true, _) => "leave it to the next reboot".to_owned(),
        (false, true) => "reboot without waiting for pods".to_owned(),
        (false, false) => "ask pods to end, and reboot".to_owned(),
    }]
}
