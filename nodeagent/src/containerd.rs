//! containerd's API, as far as the agent uses it: importing and listing images, trying whether pods can start, what pods are called,
//! what containers have written, and stopping containers before the machine goes down.

mod cri;
mod import;
mod pods;
mod sandbox;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use containerd_client::services::v1::{KillRequest, ListImagesRequest, ListTasksRequest, WaitRequest};
use containerd_client::{Client, with_namespace};
use futures::future::join_all;
use tonic::Request;

pub use import::{import_archive, import_pinned};
pub use pods::{names, sandboxes};
pub use sandbox::try_sandbox;
pub use stats::{Layer, layers};

/// Where the kubelet's images and containers are.
const NAMESPACE: &str = "k8s.io";
const SIGTERM: u32 = 15;

/// An image that containerd has.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub name: String,
    /// Of the manifest or index: `sha256:...`.
    pub digest: String,
    pub created_at: Option<prost_types::Timestamp>,
}

/// All images, by name.
pub async fn images(socket: &Path) -> anyhow::Result<Vec<Image>> {
    let request = with_namespace!(ListImagesRequest::default(), NAMESPACE);
    let listed = connect(socket).await?.images().list(request).await.context("listing containerd's images")?;
    let image = |image: containerd_client::services::v1::Image| Image {
        name: image.name,
        digest: image.target.map(|target| target.digest).unwrap_or_default(),
        created_at: image.created_at,
    };
    let mut images: Vec<Image> = listed.into_inner().images.into_iter().map(image).collect();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// Digest of each image, by name.
pub async fn list_images(socket: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    Ok(images(socket).await?.into_iter().map(|image| (image.name, image.digest)).collect())
}

/// Asks every container to end and waits until all have, at most until the deadline; how many were asked.
pub async fn stop_containers(socket: &Path, deadline: Duration) -> anyhow::Result<usize> {
    let client = connect(socket).await?;
    let listed = client.tasks().list(with_namespace!(ListTasksRequest::default(), NAMESPACE)).await.context("listing containers")?;
    let containers: Vec<String> = listed.into_inner().tasks.into_iter().map(|task| task.id).collect();
    let stopping = join_all(containers.iter().map(|container| stop(&client, container)));
    tokio::time::timeout(deadline, stopping).await.with_context(|| format!("containers still run after {} seconds", deadline.as_secs()))?;
    Ok(containers.len())
}

/// A container that is gone already is stopped.
async fn stop(client: &Client, container: &str) {
    let kill = KillRequest { container_id: container.to_owned(), signal: SIGTERM, ..Default::default() };
    let wait = WaitRequest { container_id: container.to_owned(), ..Default::default() };
    if client.tasks().kill(with_namespace!(kill, NAMESPACE)).await.is_ok() {
        let _ = client.tasks().wait(with_namespace!(wait, NAMESPACE)).await;
    }
}

async fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::from_path(socket).await.with_context(|| format!("connecting to containerd at {}", socket.display()))
}
