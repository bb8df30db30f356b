//! Texts that are made whole, at one moment, and sent in chunks. Whoever takes one too slowly gets the rest no more: what a stalled client keeps in
//! memory is two chunks, and that only until its connection ends.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

const CHUNK_BYTES: usize = 16 * 1024;

/// The text, until the deadline; what was not taken by then ends in an error. The permit lasts as long as the text is in memory.
pub fn in_chunks(text: String, permit: OwnedSemaphorePermit, deadline: Duration) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let (sender, chunks) = mpsc::channel(1);
    let whole = Arc::new(AtomicBool::new(false));
    let sent = whole.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let text = Bytes::from(text);
        let send = async {
            for at in (0..text.len()).step_by(CHUNK_BYTES) {
                // A copy, so that a chunk that waits does not keep the whole text.
                let chunk = Bytes::copy_from_slice(&text[at..text.len().min(at + CHUNK_BYTES)]);
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            sent.store(true, Ordering::Release);
        };
        let _ = tokio::time::timeout(deadline, send).await;
    });
    let cut = stream::once(async move { (!whole.load(Ordering::Acquire)).then(|| Err(io::ErrorKind::TimedOut.into())) });
    ReceiverStream::new(chunks).chain(cut.filter_map(async |end| end))
}
