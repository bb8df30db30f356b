//! Service Image: container images of this machine.

use std::io;

use api::v1::image_server;
use api::v1::{ContainerImage, ImportRequest, ImportResponse, ListImagesRequest, ListImagesResponse};
use futures::{StreamExt, TryStreamExt};
use tokio_util::io::StreamReader;
use tonic::{Request, Response, Status, Streaming};

use crate::containerd;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::services;

#[derive(Debug)]
pub struct Image(pub Node);

#[tonic::async_trait]
impl image_server::Image for Image {
    async fn import(&self, request: Request<Streaming<ImportRequest>>) -> Result<Response<ImportResponse>, Status> {
        self.require_containerd()?;
        let chunks = request.into_inner().map_ok(|message| io::Cursor::new(message.chunk));
        let archive = StreamReader::new(chunks.map(|chunk| chunk.map_err(io::Error::other)));
        let names = containerd::import_archive(&self.0.root.containerd_socket(), archive).await;
        let names = names.map_err(|error| not_imported(&self.0, error))?;
        if names.is_empty() {
            let text = "the archive names no image; expected index.json to name each by annotation org.opencontainers.image.ref.name or io.containerd.image.name";
            return Err(Refusal::field("chunk", text).into());
        }
        Ok(Response::new(ImportResponse { names }))
    }

    async fn list(&self, _: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        self.require_containerd()?;
        let images = containerd::images(&self.0.root.containerd_socket()).await;
        let images = images.map_err(|source| Refusal::Unavailable { part: "containerd", source })?;
        let image = |image: containerd::Image| ContainerImage { name: image.name, digest: image.digest, created_at: image.created_at };
        Ok(Response::new(ListImagesResponse { images: images.into_iter().map(image).collect() }))
    }
}

impl Image {
    fn require_containerd(&self) -> Result<(), Refusal> {
        if services::is_ready(&self.0.store, "containerd") {
            return Ok(());
        }
        Err(Refusal::state("CONTAINERD_NOT_READY", "containerd is not ready yet", "try again in a moment; see machinectl services"))
    }
}

/// What went wrong while containerd is up lies in the archive.
fn not_imported(node: &Node, error: anyhow::Error) -> Refusal {
    if !services::is_ready(&node.store, "containerd") {
        return Refusal::Unavailable { part: "containerd", source: error };
    }
    Refusal::field("chunk", format!("{error:#}; expected an OCI archive (a tar file)"))
}
