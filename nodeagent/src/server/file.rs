//! Service File: the machine's files, to look at. Regular files and directories only: devices and pipes may hang or do things.

use std::fs::{self, FileType, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use api::v1::file_server;
use api::v1::{FileEntry, ListFilesRequest, ListFilesResponse, ReadRequest, ReadResponse};
use nix::libc::O_NONBLOCK;
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Sink, answer};
use crate::node::Node;
use crate::refusal::Refusal;

const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct File(pub Node);

#[tonic::async_trait]
impl file_server::File for File {
    type ListStream = Answers<ListFilesResponse>;

    async fn list(&self, request: Request<ListFilesRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (path, shown) = self.path(&request.into_inner().path)?;
        let entries = fs::read_dir(&path).map_err(|error| refused(&shown, "a directory", &error))?;
        Ok(Response::new(answer(|sink| on_a_thread(move || list(entries, &sink)))))
    }

    type ReadStream = Answers<ReadResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (path, shown) = self.path(&request.into_inner().path)?;
        let file = open(&path, &shown)?;
        Ok(Response::new(answer(|sink| on_a_thread(move || read(file, &sink)))))
    }
}

impl File {
    /// The path under the root, and as the user gave it.
    fn path(&self, path: &str) -> Result<(PathBuf, String), Refusal> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.starts_with('/') || !plain {
            return Err(Refusal::field("path", format!("{path:?}; expected an absolute path without `..`")));
        }
        Ok((self.0.root.path(path), path.to_owned()))
    }
}

/// Disks are read off the threads that serve.
async fn on_a_thread(work: impl FnOnce() -> Result<(), Ended> + Send + 'static) -> Result<(), Ended> {
    tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)?
}

/// Opened without waiting for a pipe's other end, then looked at: what was checked is what is read.
fn open(path: &Path, shown: &str) -> Result<fs::File, Refusal> {
    let file = fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(|error| refused(shown, "a file", &error))?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(Refusal::field("path", format!("{shown} is {}; expected a regular file", word(kind))))
}

fn list(entries: fs::ReadDir, sink: &Sink<ListFilesResponse>) -> Result<(), Ended> {
    for entry in entries {
        let entry = entry?;
        // A file may go between the listing and the look at it.
        let Ok(metadata) = entry.metadata() else { continue };
        let target = fs::read_link(entry.path()).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        sink.send_blocking(ListFilesResponse { entry: Some(describe(name, target, &metadata)) })?;
    }
    Ok(())
}

fn read(mut file: fs::File, sink: &Sink<ReadResponse>) -> Result<(), Ended> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        chunk.truncate(count);
        sink.send_blocking(ReadResponse { chunk })?;
    }
}

fn describe(name: String, target: String, metadata: &Metadata) -> FileEntry {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::ZERO);
    FileEntry {
        name,
        size_bytes: metadata.len(),
        mode: metadata.mode(),
        user_id: metadata.uid(),
        modified_at: Some(prost_types::Timestamp { seconds: modified.as_secs() as i64, nanos: modified.subsec_nanos() as i32 }),
        target,
    }
}

fn refused(path: &str, expected: &str, error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::not_found(path, "list the directory above it: machinectl ls"),
        _ => Refusal::field("path", format!("{path}: {error}; expected {expected}")),
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_char_device() => "a character device",
        kind if kind.is_block_device() => "a block device",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "no regular file",
    }
}
