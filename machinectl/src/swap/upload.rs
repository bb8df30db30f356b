//! Brings to a machine the chunks that it lacks, as patches where there are any. What is there stays there, so that after a cut connection the next offer tells what is
//! still missing.

use std::time::Duration;

use api::v1::{OfferResponse, UploadRequest, UploadResponse, WatchUpgradeRequest};
use indicatif::HumanBytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic_types::StatusExt;
use update::Digest;

use super::backoff::Backoff;
use super::change::Update;
use super::patches::Forms;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::session::Session;

/// For how long a broken connection is tried again without a chunk more on the machine.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Chunks that are read ahead: about a megabyte at most.
const READ_AHEAD: usize = 4;

/// Offers the update and sends what is missing, until nothing is.
pub async fn upload(session: &Session, update: &Update, mut forms: Forms, quiet: bool) -> Result<(), Failure> {
    let waiting = Progress::waiting(quiet);
    let mut backoff = Backoff::new(PATIENCE);
    let mut offered = offer(session, update, &mut backoff, &waiting).await?;
    drop(waiting);
    forms.running(&offered.running_root_hash);
    let mut missing = digests(session, &offered.missing)?;
    let total = forms.weight(&missing).sum();
    let progress = Progress::bytes(quiet, total, &session.node.to_string());
    progress.done(&format!("{}: {} to send", session.node, HumanBytes(total)));
    while !missing.is_empty() {
        progress.set(total.saturating_sub(forms.weight(&missing).sum()));
        let lacked = missing.len();
        let sent = send(session, &forms, &offered.update, missing, &progress).await;
        let mut gives_up = false;
        match sent {
            Ok(UploadResponse { missing: 0, .. }) => break,
            Ok(_) => {}
            Err(Sending::Broken(why)) => progress.done(&format!("{}: the upload broke off ({why}); going on where it was", session.node)),
            Err(Sending::Mismatch(why)) => {
                gives_up = true;
                progress.done(&format!("{}: {why}; sending such chunks whole", session.node));
            }
            Err(Sending::Failed(failure)) => return Err(failure),
        }
        offered = offer(session, update, &mut backoff, &progress).await?;
        forms.running(&offered.running_root_hash);
        missing = digests(session, &offered.missing)?;
        // Chunks are sent in the order in which they are asked for: the first that is missing still is the one that was refused.
        gives_up = gives_up && missing.first().is_some_and(|chunk| forms.give_up(chunk));
        if missing.len() < lacked {
            backoff.gained();
        } else if !gives_up && !backoff.wait().await {
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
    /// What a patch was made against is not what the machine has.
    Mismatch(String),
    Failed(Failure),
}

/// Reads and sends side by side: the call takes a stream, so a read error comes out here and ends the stream.
async fn send(
    session: &Session,
    forms: &Forms,
    update: &str,
    missing: Vec<Digest>,
    progress: &Progress,
) -> Result<UploadResponse, Sending> {
    let (sender, chunks) = mpsc::channel(READ_AHEAD);
    let (forms, id, advance) = (forms.clone(), update.to_owned(), progress.counter());
    let read = tokio::task::spawn_blocking(move || read(&forms, &id, &missing, &sender, advance));
    let mut client = session.upgrade();
    let (read, answer) = futures::future::join(read, client.upload(ReceiverStream::new(chunks))).await;
    read.map_err(|error| Sending::Failed(Failure::of("reading the update file", &error)))?.map_err(Sending::Failed)?;
    let status = match answer {
        Ok(answer) => return Ok(answer.into_inner()),
        Err(status) => status,
    };
    let failure = session.failed(&status);
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    Err(match reason.as_str() {
        "BASE_MISMATCH" => Sending::Mismatch(failure.problems.join("; ")),
        // The connection was silent for too long, or the agent was started again meanwhile and has forgotten the offer.
        "STALLED" | "OFFER_FIRST" => Sending::Broken(failure.problems.join("; ")),
        _ if Session::is_broken(&status) => Sending::Broken(failure.problems.join("; ")),
        _ => Sending::Failed(failure),
    })
}

/// A machine that does not listen any more says why in its answer.
fn read(forms: &Forms, id: &str, chunks: &[Digest], sender: &mpsc::Sender<UploadRequest>, advance: impl Fn(u64)) -> Result<(), Failure> {
    for (index, chunk) in chunks.iter().enumerate() {
        let update = if index == 0 { id.to_owned() } else { String::new() };
        let message = UploadRequest { update, ..forms.message(chunk)? };
        let length = message.data.len() as u64;
        if sender.blocking_send(message).is_err() {
            return Ok(());
        }
        advance(length);
    }
    Ok(())
}

/// Chunks as a machine names them.
pub fn digests(session: &Session, missing: &[Vec<u8>]) -> Result<Vec<Digest>, Failure> {
    let digest = |bytes: &Vec<u8>| {
        let bytes = <[u8; 32]>::try_from(bytes.as_slice());
        bytes.map(Digest).map_err(|_| Failure::new(&session.node, "the machine names a chunk by something else than 32 bytes"))
    };
    missing.iter().map(digest).collect()
}
