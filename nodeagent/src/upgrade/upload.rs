//! Chunks that come from a client, one after the other. Memory holds one of them, and the stretch that it is a patch of.

use std::sync::{Arc, Mutex, PoisonError};

use update::Base;

use super::progress::Step;
use super::session::Writer;
use super::swap::Swap;
use super::work::offered;
use super::{Upgrades, blocking};
use crate::refusal::Refusal;

/// A chunk on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// SHA-256 of the chunk.
    pub digest: Vec<u8>,
    /// The chunk compressed by itself, or against a stretch of the running image.
    pub data: Vec<u8>,
    pub base: Option<Base>,
}

/// One client's stream of chunks.
#[derive(Debug)]
pub struct Upload {
    upgrades: Arc<Upgrades>,
    swap: Swap,
    writer: Arc<Mutex<Writer>>,
    step: Step,
    /// For which offer it is.
    offer: u64,
    pub chunks: u64,
    pub bytes: u64,
}

impl Upgrades {
    /// For the update that was offered last.
    pub async fn upload(self: Arc<Self>, update: &str) -> Result<Upload, Refusal> {
        let swap = self.swap()?.clone();
        let work = self.work.lock().await;
        let missing = offered(&work, update)?.missing();
        let offer = work.offers;
        drop(work);
        let opening = swap.clone();
        let writer = blocking(move || Writer::open(&opening)).await?;
        let step = self.reporter.step("taking in what is missing", missing.iter().map(|chunk| u64::from(chunk.size)).sum());
        Ok(Upload { swap, writer: Arc::new(Mutex::new(writer)), step, offer, chunks: 0, bytes: 0, upgrades: self })
    }
}

impl Upload {
    /// Writes a chunk. One that is there already changes nothing.
    pub async fn take(&mut self, sent: Sent) -> Result<(), Refusal> {
        let mut work = self.upgrades.work.clone().lock_owned().await;
        // An offer that came since then has a stream of its own.
        if work.offers != self.offer {
            return Err(superseded());
        }
        let (swap, writer) = (self.swap.clone(), self.writer.clone());
        let taken = blocking(move || {
            let Some(session) = &mut work.session else { return Ok(Err(superseded())) };
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(session.take(&swap, &mut writer, &sent))
        });
        let bytes = taken.await??;
        if bytes > 0 {
            self.chunks += 1;
            self.bytes += bytes;
            self.step.advance(bytes);
        }
        Ok(())
    }

    /// Has everything on the disk; how many chunks are missing still.
    pub async fn finish(&self) -> Result<u64, Refusal> {
        let (swap, writer) = (self.swap.clone(), self.writer.clone());
        blocking(move || writer.lock().unwrap_or_else(PoisonError::into_inner).sync(&swap)).await?;
        let mut work = self.upgrades.work.clone().lock_owned().await;
        let (swap, offer) = (self.swap.clone(), self.offer);
        let missing = blocking(move || {
            if work.offers != offer {
                return Ok(None);
            }
            let Some(session) = work.session.as_mut() else { return Ok(None) };
            session.note_written(&swap)?;
            Ok(Some(session.missing_count()))
        });
        Ok(missing.await?.ok_or_else(superseded)? as u64)
    }
}

fn superseded() -> Refusal {
    Refusal::state("SUPERSEDED", "another offer came since this stream began", "offer the update again and upload what it lacks")
}
