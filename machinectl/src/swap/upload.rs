//! Brings to a machine the chunks that it lacks. What is there stays there, so that after a cut connection the next offer tells what is
//! still missing.

use std::sync::Arc;
use std::time::Duration;

use api::v1::{OfferResponse, UploadRequest, UploadResponse, WatchUpgradeRequest};
use indicatif::HumanBytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_types::StatusExt;
use update::{Digest, UpdateFile};

use super::backoff::Backoff;
use super::change::Update;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::session::Session;

/// For how long a broken connection is tried again without a chunk more on the machine.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Chunks that are read ahead: about a megabyte at most.
const READ_AHEAD: usize = 4;

/// Offers the update and sends what is missing, until nothing is.
pub async fn upload(session: &Session, update: Arc<Update>, quiet: bool) -> Result<(), Failure> {
    let waiting = Progress::waiting(quiet);
    let mut backoff = Backoff::new(PATIENCE);
    let mut offered = offer(session, &update, &mut backoff, &waiting).await?;
    drop(waiting);
    let total = wire_bytes(&update, &offered.missing);
    let progress = Progress::bytes(quiet, total, &session.node.to_string());
    progress.done(&format!("{}: {} to send", session.node, HumanBytes(total)));
    while !offered.missing.is_empty() {
        progress.set(total.saturating_sub(wire_bytes(&update, &offered.missing)));
        let lacked = offered.missing.len();
        match send(session, &update, &offered, &progress).await {
            Ok(UploadResponse { missing: 0, .. }) => break,
            Ok(_) => {}
            Err(Sending::Broken(why)) => progress.done(&format!("{}: the upload broke off ({why}); going on where it was", session.node)),
            Err(Sending::Failed(failure)) => return Err(failure),
        }
        offered = offer(session, &update, &mut backoff, &progress).await?;
        if offered.missing.len() < lacked {
            backoff.gained();
        } else if !backoff.wait().await {
            let problem = format!("{lacked} chunks are still missing, and sending them gains nothing");
            return Err(Failure::new(&session.node, problem).remedy("see `machinectl get upgrades` and the events of the machine"));
        }
    }
    progress.done(&format!("{}: all chunks are there", session.node));
    Ok(())
}

/// The offer proper: the machine copies what it has, which may take a while.
async fn offer(session: &Session, update: &Update, backoff: &mut Backoff, progress: &Progress) -> Result<OfferResponse, Failure> {
    loop {
        progress.wait_for(format!("{}: looks what it has of the update", session.node));
        match while_told(session, progress, session.upgrade().offer(update.offer(false))).await {
            Ok(offered) => return Ok(offered.into_inner()),
            Err(status) if Session::is_broken(&status) && backoff.wait().await => {}
            Err(status) => return Err(session.failed(&status)),
        }
    }
}

/// Shows what the machine tells of its work for as long as the call takes.
async fn while_told<T>(session: &Session, progress: &Progress, call: impl Future<Output = T>) -> T {
    let tell = async {
        if let Ok(answers) = session.upgrade().watch(WatchUpgradeRequest {}).await {
            let mut answers = answers.into_inner();
            while let Some(Ok(answer)) = answers.next().await {
                progress.wait_for(format!("{}: {}: {}", session.node, answer.phase, answer.message));
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        answer = call => answer,
        () = tell => unreachable!("it waits for ever"),
    }
}

enum Sending {
    Broken(String),
    Failed(Failure),
}

/// Reads and sends side by side: the call takes a stream, so a read error comes out here and ends the stream.
async fn send(session: &Session, update: &Arc<Update>, offered: &OfferResponse, progress: &Progress) -> Result<UploadResponse, Sending> {
    let digests = digests(session, &offered.missing).map_err(Sending::Failed)?;
    let (sender, chunks) = mpsc::channel(READ_AHEAD);
    let (sent, id, advance) = (update.clone(), offered.update.clone(), progress.counter());
    let read = tokio::task::spawn_blocking(move || read(&sent.file, &id, digests, &sender, advance));
    let mut client = session.upgrade();
    let (read, answer) = futures::future::join(read, client.upload(ReceiverStream::new(chunks))).await;
    read.map_err(|error| Sending::Failed(Failure::of("reading the update file", &error)))?.map_err(Sending::Failed)?;
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if can_go_on(&status) => Err(Sending::Broken(session.failed(&status).problems.join("; "))),
        Err(status) => Err(Sending::Failed(session.failed(&status))),
    }
}

/// Whether another offer leads on: after a broken connection, after one that was silent for too long, and where the agent was started
/// again meanwhile and has forgotten the offer.
fn can_go_on(status: &Status) -> bool {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    Session::is_broken(status) || ["STALLED", "OFFER_FIRST"].contains(&reason.as_str())
}

/// A machine that does not listen any more says why in its answer.
fn read(
    file: &UpdateFile,
    id: &str,
    digests: Vec<Digest>,
    sender: &mpsc::Sender<UploadRequest>,
    advance: impl Fn(u64),
) -> Result<(), Failure> {
    for (index, digest) in digests.into_iter().enumerate() {
        let data = file.compressed(&digest).map_err(|error| Failure::of("reading the update file", &error))?;
        let data = data.ok_or_else(|| Failure::new("update file", format!("the machine asks for a chunk that is not in it: {digest}")))?;
        let length = data.len() as u64;
        let update = if index == 0 { id.to_owned() } else { String::new() };
        if sender.blocking_send(UploadRequest { update, digest: digest.0.to_vec(), data }).is_err() {
            return Ok(());
        }
        advance(length);
    }
    Ok(())
}

fn digests(session: &Session, missing: &[Vec<u8>]) -> Result<Vec<Digest>, Failure> {
    let digest = |bytes: &Vec<u8>| {
        let bytes = <[u8; 32]>::try_from(bytes.as_slice());
        bytes.map(Digest).map_err(|_| Failure::new(&session.node, "the machine names a chunk by something else than 32 bytes"))
    };
    missing.iter().map(digest).collect()
}

/// Compressed bytes of these chunks.
fn wire_bytes(update: &Update, missing: &[Vec<u8>]) -> u64 {
    let bytes = |digest: &Vec<u8>| update.file.compressed_bytes(&Digest(<[u8; 32]>::try_from(digest.as_slice()).ok()?));
    missing.iter().filter_map(bytes).map(u64::from).sum()
}
