//! `etcd restore`: a snapshot becomes the cluster's data.

use std::path::{Path, PathBuf};

use api::v1::{EtcdRestoreRequest, EtcdRestoreResponse};
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::members::status;
use super::recover::until_alone;
use crate::cli::World;
use crate::confirm::named;
use crate::failure::Failure;
use crate::output::write;
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::SLOW;

const CHUNK_BYTES: usize = 256 * 1024;

/// Make a new cluster of one control plane out of a snapshot: everything since then is lost
#[derive(Debug, Args)]
#[command(after_help = "Afterwards each other control plane gives up what it has and joins: machinectl etcd rejoin -n HOST.\n\
                        Then reboot all machines, so that nobody goes on with what he remembers.")]
pub struct Restore {
    /// What etcd snapshot, or etcdctl snapshot save, wrote
    file: PathBuf,
    /// Check the snapshot, and only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Restore {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let progress = Progress::waiting(world.quiet);
        let look = async |session: Session| {
            let hostname = status(&session).await?.hostname;
            Ok((session.node.clone(), hostname, send(&session, &self.file, "", true).await?.plan))
        };
        progress.wait_for("checking the snapshot");
        let (node, hostname, plan) = world.connection.one(SLOW, look).await?;
        drop(progress);
        write(&format!("{node} ({hostname}):\n"));
        plan.iter().for_each(|step| write(&format!("  {step}\n")));
        if self.dry_run {
            return Ok(());
        }
        if !(self.yes || named("What was written since the snapshot is lost.", &hostname)?) {
            return Err(Failure::new(node, "not restored"));
        }
        let progress = Progress::waiting(world.quiet);
        let restore = async |session: Session| {
            progress.wait_for("sending the snapshot");
            send(&session, &self.file, &hostname, false).await?;
            until_alone(&session, &progress).await
        };
        world.connection.one(SLOW, restore).await?;
        drop(progress);
        write(&format!(
            "{node} runs a new cluster with the data of the snapshot; the others join it with: machinectl etcd rejoin -n HOST\n"
        ));
        Ok(())
    }
}

/// Reads and sends side by side: the call takes a stream, so a read error comes out here and ends the stream.
async fn send(session: &Session, path: &Path, confirm: &str, dry_run: bool) -> Result<EtcdRestoreResponse, Failure> {
    let failed = |error: std::io::Error| Failure::of(path.display(), &error);
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let (sender, messages) = mpsc::channel(4);
    let read = async {
        let mut message = EtcdRestoreRequest { confirm: confirm.to_owned(), dry_run, chunk: Vec::new() };
        loop {
            message.chunk = vec![0; CHUNK_BYTES];
            let length = file.read(&mut message.chunk).await.map_err(failed)?;
            message.chunk.truncate(length);
            // A machine that does not listen any more says why in its answer.
            if sender.send(std::mem::take(&mut message)).await.is_err() || length == 0 {
                drop(sender);
                return Ok(());
            }
        }
    };
    let mut client = session.etcd();
    let call = session.ask(client.restore(ReceiverStream::new(messages)));
    let (read, answer) = futures::future::join(read, call).await;
    match (read, answer) {
        (Err(failure), _) => Err(failure),
        (Ok(()), answer) => answer,
    }
}
