//! What machinectl does of an upgrade, without the cluster around it: offer, upload of whole chunks, start.

use anyhow::{Context, ensure};
use api::v1::machine_client::MachineClient;
use api::v1::upgrade_client::UpgradeClient;
use api::v1::{GetVersionRequest, OfferRequest, StartUpgradeRequest, UploadRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use update::{Digest, UpdateFile};

use crate::api::caller;
use crate::api::identities::Identities;

/// Chunks that are read ahead, as machinectl does it.
const READ_AHEAD: usize = 4;

#[derive(Debug)]
pub struct Client {
    channel: Channel,
}

/// What went to the machine.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub chunks: u64,
    /// Compressed.
    pub bytes: u64,
    /// Of the whole image.
    pub raw_bytes: u64,
}

impl Client {
    pub async fn connect(identities: &Identities) -> anyhow::Result<Client> {
        Ok(Client { channel: caller::connect(api::PORT, identities).await? })
    }

    /// An agent that has answered once has what every answer needs.
    pub async fn version(&mut self) -> anyhow::Result<()> {
        MachineClient::new(self.channel.clone()).get_version(GetVersionRequest {}).await?;
        Ok(())
    }

    /// Until the next boot would try the image.
    pub async fn apply(&mut self, update: &UpdateFile) -> anyhow::Result<Sent> {
        let mut client = UpgradeClient::new(self.channel.clone());
        let offer = OfferRequest { manifest: update.manifest().bytes().to_vec(), ..OfferRequest::default() };
        let offered = client.offer(offer).await.context("offer")?.into_inner();
        let mut messages = Vec::new();
        for digest in &offered.missing {
            let digest = Digest(digest.as_slice().try_into().context("a digest of 32 bytes")?);
            messages.push((digest, update.compressed_bytes(&digest).context("a chunk of the update")?));
        }
        let bytes = messages.iter().map(|(_, length)| u64::from(*length)).sum();
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let send = async {
            let mut name = offered.update.clone();
            for (digest, _) in &messages {
                let data = update.compressed(digest)?.context("a chunk of the update")?;
                let message = UploadRequest { update: std::mem::take(&mut name), digest: digest.0.to_vec(), data, base: None };
                if sender.send(message).await.is_err() {
                    break;
                }
            }
            drop(sender);
            anyhow::Ok(())
        };
        let (sent, uploaded) = tokio::join!(send, client.upload(ReceiverStream::new(receiver)));
        sent?;
        let uploaded = uploaded.context("upload")?.into_inner();
        ensure!(uploaded.missing == 0, "{} chunks are missing after the upload", uploaded.missing);
        let start = StartUpgradeRequest { update: offered.update, stage: true, ..StartUpgradeRequest::default() };
        let mut told = client.start(start).await.context("start")?.into_inner();
        let mut finished = false;
        while let Some(progress) = told.message().await.context("start")? {
            finished = progress.finished;
        }
        ensure!(finished, "the machine did not say that it is done");
        Ok(Sent { chunks: uploaded.chunks_written, bytes, raw_bytes: offered.total_bytes })
    }
}
