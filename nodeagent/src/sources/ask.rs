//! Asks one source, whichever it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::fetch::Deadlines;
use super::metadata::{self, Metadata};
use super::plan::Source;
use super::volume::{self, Contents, Wanted};
use super::{config_drive, nocloud};
use crate::node::Node;

/// What a source holds: not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `/dev/sr0`, an address or an URL.
    pub place: String,
    pub content: Vec<u8>,
    /// The machine's name as the source knows it.
    pub hostname: Option<String>,
}

/// The world in which sources are asked.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Where metadata services are.
    pub metadata: SocketAddr,
    pub deadlines: Deadlines,
    /// The first wait between two rounds, and the longest.
    pub waits: (Duration, Duration),
}

impl Default for Outside {
    fn default() -> Outside {
        let waits = (Duration::from_millis(500), Duration::from_secs(30));
        Outside { metadata: metadata::address(), deadlines: Deadlines::default(), waits }
    }
}

#[derive(Debug)]
pub struct Asker {
    node: Node,
    deadlines: Deadlines,
    metadata: Metadata,
    /// A device that hangs holds it, and no second one is tried meanwhile.
    volumes: Arc<Semaphore>,
}

impl Asker {
    pub fn new(node: Node, outside: &Outside) -> Asker {
        let metadata = Metadata::new(outside.metadata, outside.deadlines);
        Asker { node, deadlines: outside.deadlines, metadata, volumes: Arc::new(Semaphore::new(1)) }
    }

    /// `None` where the source holds no config.
    pub async fn ask(&mut self, source: &Source) -> anyhow::Result<Option<Found>> {
        let data = match source {
            Source::NoCloud => return self.nocloud().await,
            Source::ConfigDrive => return self.config_drive().await,
            Source::Url(url) => url.ask(&self.node, self.deadlines).await,
            Source::Aws => self.metadata.aws().await,
            Source::Gcp => self.metadata.gcp().await,
            Source::Azure => self.metadata.azure().await,
            Source::OpenStack => self.metadata.openstack().await,
        };
        Ok(data?.map(|content: Bytes| Found { place: place(source), content: content.into(), hostname: None }))
    }

    async fn nocloud(&self) -> anyhow::Result<Option<Found>> {
        let Some(Contents { device, files }) = self.volume(nocloud::wanted()).await? else { return Ok(None) };
        let mut files = files.into_iter();
        let (user_data, meta_data) = (files.next().flatten(), files.next().flatten());
        let hostname = meta_data.as_deref().and_then(nocloud::hostname);
        Ok(user_data.map(|content| Found { place: device, content, hostname }))
    }

    async fn config_drive(&self) -> anyhow::Result<Option<Found>> {
        let Some(Contents { device, files }) = self.volume(config_drive::wanted()).await? else { return Ok(None) };
        let content = files.into_iter().next().flatten();
        Ok(content.map(|content| Found { place: device, content, hostname: None }))
    }

    async fn volume(&self, wanted: Wanted) -> anyhow::Result<Option<Contents>> {
        let permit = self.volumes.clone().try_acquire_owned().context("a block device has not answered since it was asked last")?;
        let root = self.node.root.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            volume::read(&root, &wanted)
        });
        let within = self.deadlines.whole;
        let read = timeout(within, reading).await.with_context(|| format!("no answer of a block device within {} s", within.as_secs()))?;
        Ok(read??)
    }
}

/// Where the source is looked for.
pub fn place(source: &Source) -> String {
    match source {
        Source::Url(url) => url.to_string(),
        Source::NoCloud => format!("volume labelled {}", nocloud::LABEL),
        Source::ConfigDrive => format!("volume labelled {}", config_drive::LABEL),
        Source::Aws | Source::Gcp | Source::Azure | Source::OpenStack => metadata::ADDRESS.to_owned(),
    }
}
