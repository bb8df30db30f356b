//! `image`: container images into a machine, and those that it has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::v1::{ContainerImage, ImportRequest, ListImagesRequest};
use clap::{Args, Subcommand};
use dashboard::times;
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};
use crate::progress::Progress;
use crate::session::Session;

/// Size of a chunk; the API takes at most 1 MiB.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long an import may take.
const IMPORT: Option<Duration> = Some(Duration::from_secs(30 * 60));

#[derive(Debug, Subcommand)]
pub enum Image {
    Import(Import),
    List(List),
}

/// Import an OCI archive (a tar file) into machines
#[derive(Debug, Args)]
pub struct Import {
    file: PathBuf,
}

/// List the container images of machines
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
}

impl Image {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Image::Import(import) => import.run(world).await,
            Image::List(list) => list.run(world).await,
        }
    }
}

impl Import {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::of(self.file.display(), &error);
        let size = tokio::fs::metadata(&self.file).await.map_err(failed)?.len();
        let progress = Progress::bytes(world.quiet, size * world.connection.count()? as u64, &self.file.display().to_string());
        let answers = world.connection.each_named(IMPORT, async |session| import(&session, &self.file, &progress).await).await?;
        drop(progress);
        for (node, names) in &answers.done {
            names.iter().for_each(|name| write(&format!("{node}: {name}\n")));
        }
        answers.outcome()
    }
}

/// Reads and sends side by side: the call takes a stream, so a read error comes out here and ends the stream.
async fn import(session: &Session, path: &Path, progress: &Progress) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::of(path.display(), &error);
    let mut file = File::open(path).await.map_err(failed)?;
    let (sender, chunks) = mpsc::channel(4);
    let read = async {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = file.read(&mut chunk).await.map_err(failed)?;
            chunk.truncate(length);
            // A machine that does not listen any more says why in its answer.
            if length == 0 || sender.send(ImportRequest { chunk }).await.is_err() {
                drop(sender);
                return Ok(());
            }
            progress.advance(length as u64);
        }
    };
    let mut client = session.image();
    let call = session.ask(client.import(ReceiverStream::new(chunks)));
    let (read, answer) = futures::future::join(read, call).await;
    read.and(answer).map(|response| response.names)
}

impl List {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session| session.ask(session.image().list(ListImagesRequest {})).await;
        let answers = world.connection.each(QUICK, ask).await?;
        let rows: Vec<_> =
            answers.done.iter().flat_map(|(node, response)| response.images.iter().map(move |image| (node, image))).collect();
        if !answers.done.is_empty() {
            self.output.print(|wide| table(&rows, wide), || rows.iter().map(|(node, image)| value(node, image)).collect());
        }
        answers.outcome()
    }
}

/// The runtime knows each image by its bare digest as well: that is for `wide`.
fn table(rows: &[(&HostPort, &ContainerImage)], wide: bool) -> Table {
    let mut table = Table::new(&["NODE", "IMAGE", "DIGEST", "CREATED"]);
    for (node, image) in rows.iter().filter(|(_, image)| wide || !image.name.starts_with("sha256:")) {
        table.row([node.to_string(), image.name.clone(), image.digest.clone(), times::shown(image.created_at.as_ref())]);
    }
    table
}

fn value(node: &HostPort, image: &ContainerImage) -> Value {
    json!({ "node": node.to_string(), "name": image.name, "digest": image.digest, "createdAt": times::shown(image.created_at.as_ref()) })
}
