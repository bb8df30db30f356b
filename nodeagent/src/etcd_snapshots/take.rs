//! Takes one snapshot: asks etcd, encrypts, writes, and reads back what was written.

use anyhow::{Context, ensure};
use controlplane::etcd::sealed::{Opener, Sealer};
use controlplane::etcd::snapshot::Passing;
use machine::config::Secret;

use super::Place;
use super::directory::Writing;
use super::s3::Upload;
use crate::etcd::snapshot::Taking;
use crate::member::Client;
use crate::node::Node;

enum Target<'a> {
    File(Writing),
    Object(Upload<'a>),
}

impl Target<'_> {
    async fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Target::File(file) => file.add(bytes),
            Target::Object(object) => object.add(bytes).await,
        }
    }
}

/// Its size as it was written.
pub async fn take(node: &Node, place: &Place, name: &str) -> anyhow::Result<u64> {
    let client = Client::new(node)?;
    let config = node.config().context("the machine has no config any more")?.config;
    let secret = config.cluster.encryption_key.as_ref().context("the machine config has no cluster.encryptionKey to encrypt it with")?;
    let mut target = match place {
        Place::Directory(directory) => Target::File(directory.write()?),
        Place::Bucket(bucket) => Target::Object(bucket.upload(name).await?),
    };
    match write(&client, secret, &mut target).await {
        Ok(bytes) => match target {
            Target::File(mut file) => {
                let mut check = Checking::new(secret)?;
                file.read_back(|piece| check.pass(piece))?;
                check.end(bytes)?;
                file.keep(name)?;
                Ok(bytes)
            }
            Target::Object(object) => {
                object.complete().await?;
                let checked = check_object(place, name, secret, bytes).await;
                if checked.is_err() {
                    place.remove(name).await?;
                }
                checked.map(|()| bytes)
            }
        },
        Err(error) => {
            if let Target::Object(object) = target {
                object.abort().await;
            }
            Err(error)
        }
    }
}

async fn write(client: &Client, secret: &Secret, target: &mut Target<'_>) -> anyhow::Result<u64> {
    let mut taking = Taking::begin(client.own()).await.context("taking a snapshot of etcd")?;
    let (mut sealer, head) = Sealer::new(secret)?;
    let mut bytes = head.len() as u64;
    target.add(&head).await?;
    while let Some(piece) = taking.next().await.context("taking a snapshot of etcd")? {
        let sealed = sealer.seal(&piece.bytes)?;
        bytes += sealed.len() as u64;
        target.add(&sealed).await?;
    }
    let end = sealer.finish()?;
    target.add(&end).await?;
    Ok(bytes + end.len() as u64)
}

async fn check_object(place: &Place, name: &str, secret: &Secret, bytes: u64) -> anyhow::Result<()> {
    let Place::Bucket(bucket) = place else { return Ok(()) };
    let (mut check, mut offset) = (Checking::new(secret)?, 0);
    while offset < bytes {
        let piece = bucket.read(name, offset, bytes).await?;
        ensure!(!piece.is_empty(), "{name} has {offset} bytes; {bytes} were sent");
        offset += piece.len() as u64;
        check.pass(&piece)?;
    }
    check.end(bytes)
}

/// Whether what is read back can be opened, and is whole.
struct Checking {
    opener: Opener,
    passing: Passing,
    bytes: u64,
}

impl Checking {
    fn new(secret: &Secret) -> anyhow::Result<Checking> {
        Ok(Checking { opener: Opener::new(secret)?, passing: Passing::default(), bytes: 0 })
    }

    fn pass(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.bytes += piece.len() as u64;
        self.passing.pass(&self.opener.open(piece).context("checking what was written")?);
        Ok(())
    }

    fn end(mut self, bytes: u64) -> anyhow::Result<()> {
        ensure!(self.bytes == bytes, "{} bytes are there; {bytes} were written", self.bytes);
        self.passing.pass(&self.opener.finish().context("checking what was written")?);
        ensure!(self.passing.ends_whole(), "what was written is not what etcd sent");
        Ok(())
    }
}
