//! Gives containerd the images that came with the root, so that a node needs no registry to become Ready and answer DNS.
//!
//! reads: the archives of the root, containerd's images, service containerd   writes: imagearchives

mod archive;
mod plan;

use std::path::PathBuf;

use machine::Root;
use machine::protocol::ImageFacts;

use crate::containerd;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ImageStatus;
use crate::resources::services;
pub use archive::{Archive, pause};
use plan::{Action, Seen};

/// What the running image says of itself; none where the record is not readable.
pub fn facts(root: &Root) -> Option<ImageFacts> {
    let text = std::fs::read(root.image_facts()).ok()?;
    serde_json::from_slice(&text).ok()
}

#[derive(Debug, Default)]
pub struct Images {
    /// The root never changes while it runs: read once.
    archives: Option<Vec<Archive>>,
}

impl Controller for Images {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "images";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let archives = match &self.archives {
            Some(archives) => archives.clone(),
            None => self.archives.insert(archive::read_all(&node.root.image_archives())?).clone(),
        };
        let told = node.store.all::<ImageStatus>();
        let settled = archives.iter().all(|archive| told.get(&archive.name).is_some_and(|status| status.imported));
        let ready = services::is_ready(&node.store, super::containerd::ID);
        // Asking containerd at each change of the board would be a waste; the kubelet keeps pinned images from its collector.
        let held = match (ready, settled) {
            (true, false) => Some(containerd::list_images(&node.root.containerd_socket()).await?),
            _ => None,
        };
        Ok(Seen { archives, held, settled })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Import { path, .. } => import(node, path).await,
            Action::Tell { name } => {
                node.store.put(&name, &ImageStatus { imported: true });
                Ok(())
            }
        }
    }
}

async fn import(node: &Node, path: PathBuf) -> anyhow::Result<()> {
    let file = tokio::fs::File::open(&path).await?;
    containerd::import_pinned(&node.root.containerd_socket(), file).await?;
    Ok(())
}
