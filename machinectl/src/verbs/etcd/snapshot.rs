//! `etcd snapshot`: all of etcd's data into a file.

use std::fs::{File, OpenOptions, rename};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::v1::EtcdSnapshotRequest;
use clap::Args;
use controlplane::etcd::snapshot::Passing;
use tokio_stream::StreamExt;

use crate::cli::World;
use crate::failure::Failure;
use crate::output::write;
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::SLOW;

/// Save all of etcd's data in a file, and check it: it holds every Secret of the cluster
#[derive(Debug, Args)]
#[command(after_help = "The file is what etcdctl snapshot save writes. Put it back with machinectl etcd restore, or with etcdutl.")]
pub struct Snapshot {
    file: PathBuf,
}

impl Snapshot {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let connection = world.connection.any().await?;
        let progress = Progress::waiting(world.quiet);
        let bytes = connection.one(SLOW, async |session| save(&session, &self.file, &progress).await).await?;
        drop(progress);
        write(&format!("{}: {bytes} bytes\n", self.file.display()));
        Ok(())
    }
}

/// The file is there whole, or not at all.
async fn save(session: &Session, path: &Path, progress: &Progress) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::of(path.display(), &error);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let written = copy(session, &mut file, path, progress).await;
    let kept = written.and_then(|bytes| file.sync_all().and_then(|()| rename(&part, path)).map(|()| bytes).map_err(failed));
    if kept.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    kept
}

async fn copy(session: &Session, file: &mut File, path: &Path, progress: &Progress) -> Result<u64, Failure> {
    let mut answers = session.ask(session.etcd().snapshot(EtcdSnapshotRequest {})).await?;
    let (mut passing, mut remaining) = (Passing::default(), 1);
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|status| session.failed(&status))?;
        file.write_all(&answer.chunk).map_err(|error| Failure::of(path.display(), &error))?;
        passing.pass(&answer.chunk);
        remaining = answer.remaining_bytes;
        progress.wait_for(format!("{}: {} bytes of {}", session.node, passing.bytes, passing.bytes + remaining));
    }
    let bytes = passing.bytes;
    if remaining != 0 || !passing.ends_whole() {
        return Err(Failure::new(&session.node, "what came is not whole: its SHA-256 is another one").remedy("try again"));
    }
    Ok(bytes)
}
