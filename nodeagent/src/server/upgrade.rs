//! Service Upgrade: updates are offered, uploaded, started, and undone.

use std::sync::Arc;
use std::time::Duration;

use api::v1::upgrade_server;
use api::v1::{
    ImagePart, OfferRequest, OfferResponse, PatchBase, RebootMode, RollbackUpgradeRequest, StartUpgradeRequest, UpgradeProgress,
    UploadRequest, UploadResponse, WatchUpgradeRequest,
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status, Streaming};
use update::{Base, PartName};

use super::machine::caller;
use super::stream::{Answers, Ended, Sink, answer};
use crate::clock::wall_seconds;
use crate::refusal::Refusal;
use crate::upgrade::Upgrades;
use crate::upgrade::offer::Wanted;
use crate::upgrade::progress::Progress;
use crate::upgrade::upload::{Sent, Upload};
use crate::upgrade::work::{Asked, Done};

/// How long a client may send nothing in the middle of its upload.
const STALLED: Duration = Duration::from_secs(60);
/// How long the last message may take to reach a client before the machine reboots without.
const LAST_WORD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Upgrade(pub Arc<Upgrades>);

#[tonic::async_trait]
impl upgrade_server::Upgrade for Upgrade {
    async fn offer(&self, request: Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        let by = caller(&request);
        let OfferRequest { manifest, dry_run, allow_downgrade, retry_failed } = request.into_inner();
        let offered = self.0.offer(Wanted { manifest, dry_run, allow_downgrade, retry_failed, by }).await?;
        Ok(Response::new(OfferResponse {
            update: offered.update.to_string(),
            version: offered.version,
            missing: offered.missing.iter().map(|digest| digest.0.to_vec()).collect(),
            total_bytes: offered.total_bytes,
            missing_bytes: offered.missing_bytes,
            plan: offered.plan,
            running: offered.running,
            running_root_hash: offered.running_root_hash,
        }))
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(first) = next(&mut messages).await? else {
            return Err(Refusal::field("update", "no message; expected the update's name in the first one").into());
        };
        let mut upload = self.0.clone().upload(&first.update).await?;
        let taken = take_all(&mut upload, first, &mut messages).await;
        // What came is kept, however the stream ended.
        let missing = upload.finish().await;
        taken?;
        Ok(Response::new(UploadResponse { chunks_written: upload.chunks, bytes_written: upload.bytes, missing: missing? }))
    }

    type StartStream = Answers<UpgradeProgress>;

    async fn start(&self, request: Request<StartUpgradeRequest>) -> Result<Response<Self::StartStream>, Status> {
        let by = caller(&request);
        let StartUpgradeRequest { update, dry_run, stage, reboot_mode, without_snapshot, without_quorum } = request.into_inner();
        let asked = Asked { stage, fast: reboot_mode == RebootMode::Fast as i32, without_snapshot, without_quorum, by };
        let upgrades = self.0.clone();
        if dry_run {
            return Ok(Response::new(planned(upgrades.plan_start(&update, &asked).await?)));
        }
        let work = upgrades.clone().start(update, asked.clone());
        Ok(Response::new(answer(|sink| follow_work(upgrades, asked, work, sink))))
    }

    type RollbackStream = Answers<UpgradeProgress>;

    async fn rollback(&self, request: Request<RollbackUpgradeRequest>) -> Result<Response<Self::RollbackStream>, Status> {
        let by = caller(&request);
        let RollbackUpgradeRequest { dry_run, stage, reboot_mode, without_quorum } = request.into_inner();
        let asked = Asked { stage, fast: reboot_mode == RebootMode::Fast as i32, without_quorum, by, ..Asked::default() };
        let upgrades = self.0.clone();
        if dry_run {
            return Ok(Response::new(planned(upgrades.plan_rollback(&asked).await?)));
        }
        let work = upgrades.clone().rollback(asked.clone());
        Ok(Response::new(answer(|sink| follow_work(upgrades, asked, work, sink))))
    }

    type WatchStream = Answers<UpgradeProgress>;

    async fn watch(&self, _: Request<WatchUpgradeRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let upgrades = self.0.clone();
        Ok(Response::new(answer(|sink| watch(upgrades, sink))))
    }
}

/// The next message; an error for a client that is silent.
async fn next(messages: &mut Streaming<UploadRequest>) -> Result<Option<UploadRequest>, Status> {
    let silent = || {
        let problem = format!("no chunk came for {} seconds", STALLED.as_secs());
        Refusal::state("STALLED", problem, "offer the update again and upload what it lacks")
    };
    tokio::time::timeout(STALLED, messages.message()).await.map_err(|_| silent())?
}

async fn take_all(upload: &mut Upload, first: UploadRequest, messages: &mut Streaming<UploadRequest>) -> Result<(), Status> {
    let mut message = Some(first);
    while let Some(UploadRequest { digest, data, base, .. }) = message {
        // The first message may do nothing but name the update.
        if !digest.is_empty() || !data.is_empty() {
            let base = base.map(stretch).transpose()?;
            upload.take(Sent { digest, data, base }).await?;
        }
        message = next(messages).await?;
    }
    Ok(())
}

fn stretch(base: PatchBase) -> Result<Base, Refusal> {
    let part = match base.part() {
        ImagePart::Root => PartName::Root,
        ImagePart::Verity => PartName::Verity,
        ImagePart::Uki => PartName::Uki,
        ImagePart::Unspecified => {
            return Err(Refusal::field("base.part", format!("{}; expected root (1), verity (2) or uki (3)", base.part)));
        }
    };
    // A longer one is refused for its length.
    Ok(Base { part, offset: base.offset_bytes, length: u32::try_from(base.length_bytes).unwrap_or(u32::MAX) })
}

/// Tells of the work until it is done, and then reboots. Both happen with or without somebody who listens.
async fn follow_work(
    upgrades: Arc<Upgrades>,
    asked: Asked,
    work: impl Future<Output = Result<Done, Refusal>> + Send + 'static,
    sink: Sink<UpgradeProgress>,
) -> Result<(), Ended> {
    let mut progress = upgrades.reporter().subscribe();
    progress.mark_unchanged();
    let mut work = tokio::spawn(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done.map_err(anyhow::Error::from)?,
            changed = progress.changed() => {
                let message = progress.borrow_and_update().as_ref().map(message);
                // Slow readers miss some; the work does not wait for them.
                if let (Ok(()), Some(message)) = (changed, message) {
                    sink.offer(message);
                }
            }
        }
    };
    let Done { phase, message, reboot } = done?;
    let last = UpgradeProgress { at: Some(now()), phase: phase.name().to_owned(), message, finished: true, ..Default::default() };
    // Nobody may be left to hear it.
    let _ = tokio::time::timeout(LAST_WORD, sink.send(last)).await;
    if reboot {
        upgrades.reboot(&asked);
    }
    Ok(())
}

/// What was told last, and everything from then on.
async fn watch(upgrades: Arc<Upgrades>, sink: Sink<UpgradeProgress>) -> Result<(), Ended> {
    let mut progress = upgrades.reporter().subscribe();
    let told = progress.borrow_and_update().clone();
    match told {
        Some(told) => sink.send(message(&told)).await?,
        // This agent did nothing yet: what came of the upgrade before it stands in its record.
        None => {
            if let Some(record) = upgrades.newest().await {
                let text = format!("{} to {}", record.kind.name(), record.to_version);
                let phase = record.phase.name().to_owned();
                sink.send(UpgradeProgress { at: Some(now()), phase, message: text, ..Default::default() }).await?;
            }
        }
    }
    loop {
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
            gone = sink.gone() => return Err(gone.into()),
        }
        let told = progress.borrow_and_update().clone();
        if let Some(told) = told {
            sink.send(message(&told)).await?;
        }
    }
}

fn planned(plan: Vec<String>) -> Answers<UpgradeProgress> {
    answer(|sink: Sink<UpgradeProgress>| async move {
        sink.send(UpgradeProgress { at: Some(now()), plan, finished: true, ..Default::default() }).await?;
        Ok(())
    })
}

fn message(progress: &Progress) -> UpgradeProgress {
    UpgradeProgress {
        at: Some(Timestamp { seconds: progress.at as i64, nanos: 0 }),
        phase: progress.phase.name().to_owned(),
        message: progress.message.clone(),
        done_bytes: progress.done_bytes,
        total_bytes: progress.total_bytes,
        ..Default::default()
    }
}

fn now() -> Timestamp {
    Timestamp { seconds: wall_seconds() as i64, nanos: 0 }
}
