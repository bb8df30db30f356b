//! Streams an OCI archive into containerd by its transfer service: the archive never lies in memory or on a disk of ours.
//!
//! A stream is opened under a name of our choice, then the transfer is asked to read from it. Data goes out within the window that
//! containerd grants (core/transfer/streaming in its source); on a second stream it tells which images it saved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use containerd_client::services::v1::{StreamInit, TransferOptions, TransferRequest};
use containerd_client::types::transfer::{Data, ImageImportStream, ImageReference, ImageStore, Progress, WindowUpdate};
use containerd_client::{Client, to_any, with_namespace};
use prost::Message;
use prost_types::Any;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{NAMESPACE, connect};

/// containerd's own chunk.
const CHUNK: usize = 32 * 1024;
/// How long containerd may take to close the stream of names after the transfer is done.
const LAST_NAMES: Duration = Duration::from_secs(5);

/// By this label the kubelet's image collector leaves an image alone (`PinnedImageLabelKey` in containerd's CRI plugin).
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// Imports an OCI archive (a tar file); the names of its images, as they were saved.
pub async fn import_archive(socket: &Path, archive: impl AsyncRead + Send) -> anyhow::Result<Vec<String>> {
    import(socket, archive, HashMap::new()).await
}

/// The same for images that no registry has: once collected, they would be gone.
pub async fn import_pinned(socket: &Path, archive: impl AsyncRead + Send) -> anyhow::Result<Vec<String>> {
    let (label, value) = PINNED;
    import(socket, archive, HashMap::from([(label.to_owned(), value.to_owned())])).await
}

async fn import(socket: &Path, archive: impl AsyncRead + Send, labels: HashMap<String, String>) -> anyhow::Result<Vec<String>> {
    let client = connect(socket).await?;
    let (input, progress) = (Pipe::open(&client, "import").await?, Pipe::open(&client, "progress").await?);
    let request = TransferRequest {
        source: Some(to_any(&ImageImportStream { stream: input.name.clone(), ..Default::default() })),
        destination: Some(to_any(&by_their_own_names(labels))),
        options: Some(TransferOptions { progress_stream: progress.name.clone() }),
    };
    let mut transfers = client.transfer();
    let transfer = transfers.transfer(with_namespace!(request, NAMESPACE));
    let (sending, naming) = (send(archive, input), names(progress));
    tokio::pin!(transfer, sending, naming);
    let (mut sent, mut named) = (false, None);
    // The transfer's end ends everything: containerd stops reading when it has seen enough, and when the archive is broken.
    let transferred = loop {
        tokio::select! {
            transferred = &mut transfer => break transferred,
            result = &mut sending, if !sent => {
                result?;
                sent = true;
            }
            names = &mut naming, if named.is_none() => named = Some(names),
        }
    };
    transferred.map_err(|status| anyhow::anyhow!("{}", status.message())).context("importing into containerd")?;
    match named {
        Some(names) => Ok(names),
        None => tokio::time::timeout(LAST_NAMES, naming).await.context("waiting for the names of the imported images"),
    }
}

/// Images keep the full names that the archive's index gives them.
fn by_their_own_names(labels: HashMap<String, String>) -> ImageStore {
    let reference = ImageReference { name: "import".to_owned(), is_prefix: true, allow_overwrite: true, ..Default::default() };
    ImageStore { extra_references: vec![reference], labels, ..Default::default() }
}

/// A stream of containerd's streaming service.
struct Pipe {
    name: String,
    to: mpsc::Sender<Any>,
    from: Streaming<Any>,
}

impl Pipe {
    async fn open(client: &Client, purpose: &str) -> anyhow::Result<Pipe> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let name = format!("corten-{purpose}-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed));
        let (to, outgoing) = mpsc::channel(1);
        to.send(to_any(&StreamInit { id: name.clone() })).await.context("opening a stream to containerd")?;
        let opened = client.streaming().stream(with_namespace!(ReceiverStream::new(outgoing), NAMESPACE)).await;
        let mut from = opened.context("opening a stream to containerd")?.into_inner();
        // The first message says that the stream is known under its name.
        from.message().await.context("opening a stream to containerd")?;
        Ok(Pipe { name, to, from })
    }
}

/// Sends the archive, then closes the stream.
async fn send(archive: impl AsyncRead, mut pipe: Pipe) -> anyhow::Result<()> {
    tokio::pin!(archive);
    let mut buffer = vec![0; CHUNK];
    let mut window = 0_usize;
    loop {
        while window == 0 {
            let Some(message) = pipe.from.message().await.context("sending the archive to containerd")? else { return Ok(()) };
            if message.type_url.ends_with("WindowUpdate") {
                window += usize::try_from(WindowUpdate::decode(message.value.as_slice())?.update).unwrap_or(0);
            }
        }
        let most = window.min(CHUNK);
        let count = archive.read(&mut buffer[..most]).await.context("reading the archive")?;
        if count == 0 {
            break;
        }
        window -= count;
        if pipe.to.send(to_any(&Data { data: buffer[..count].to_vec() })).await.is_err() {
            return Ok(());
        }
    }
    // Closing our half says that this was all. The other half stays until containerd closes it: dropped now, it would reset the stream and
    // lose what is still on its way.
    drop(pipe.to);
    while let Ok(Some(_)) = pipe.from.message().await {}
    Ok(())
}

/// Names of the images that were saved.
async fn names(mut pipe: Pipe) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(Some(message)) = pipe.from.message().await {
        let Ok(progress) = Progress::decode(message.value.as_slice()) else { continue };
        if progress.event == "saved" {
            names.push(progress.name);
        }
    }
    names
}
