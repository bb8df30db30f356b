//! All of etcd's data as one stream (Maintenance.Snapshot), followed by its SHA-256: as `etcdctl snapshot save` writes it and
//! `etcdutl snapshot restore` checks it.

use anyhow::ensure;
use controlplane::etcd::snapshot::Passing;
use tonic::Streaming;

use super::{ANSWER_DEADLINE, Access, stream, within};

const METHOD: &str = "/etcdserverpb.Maintenance/Snapshot";

/// etcdserverpb.SnapshotRequest: empty.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequest {}

/// etcdserverpb.SnapshotResponse, without what is not needed of it (api/etcdserverpb/rpc.proto in etcd's source).
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotResponse {
    #[prost(uint64, tag = "2")]
    remaining_bytes: u64,
    #[prost(bytes = "vec", tag = "3")]
    blob: Vec<u8>,
}

/// One on its way.
#[derive(Debug)]
pub struct Taking {
    pieces: Streaming<SnapshotResponse>,
    /// None once its end was checked.
    passing: Option<Passing>,
    remaining: Option<u64>,
}

/// A piece, and how much is still to come.
#[derive(Debug)]
pub struct Piece {
    pub bytes: Vec<u8>,
    pub remaining: u64,
}

impl Taking {
    pub async fn begin(access: Access<'_>) -> anyhow::Result<Taking> {
        let pieces = within(ANSWER_DEADLINE, stream(access, METHOD, SnapshotRequest {})).await??;
        Ok(Taking { pieces, passing: Some(Passing::default()), remaining: None })
    }

    /// None at its end; an error there if it is not whole.
    pub async fn next(&mut self) -> anyhow::Result<Option<Piece>> {
        let Some(passing) = &mut self.passing else { return Ok(None) };
        if let Some(SnapshotResponse { blob: bytes, remaining_bytes: remaining }) = within(ANSWER_DEADLINE, self.pieces.message()).await?? {
            passing.pass(&bytes);
            self.remaining = Some(remaining);
            return Ok(Some(Piece { bytes, remaining }));
        }
        let remaining = self.remaining.map_or("all".to_owned(), |bytes| bytes.to_string());
        ensure!(remaining == "0", "it ended with {remaining} bytes to come");
        ensure!(self.passing.take().is_some_and(Passing::ends_whole), "its SHA-256 is not the one that etcd sent");
        Ok(None)
    }
}
