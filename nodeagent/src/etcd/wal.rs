//! etcd's log on the disk (server/storage/wal in etcd's source): who wrote it, where it ends, and up to where it counts.
//!
//! Of its files the last ones are read, backwards until one has an entry. Each file begins with the checksum of all before it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

const FRAME_BYTES: usize = 8;
/// Kinds of records (wal.go).
const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CHECKSUM: i64 = 4;
const SNAPSHOT: i64 = 5;

static CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("{0}: no log of etcd's is there")]
    Missing(PathBuf),
    #[error("{0}: it does not end where a record does: etcd has to mend it first, by starting once")]
    Torn(PathBuf),
}

/// What the log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Log {
    pub member: u64,
    pub cluster: u64,
    /// Of the last entry.
    pub last: Entry,
    /// Up to which entry it was known here that the others agree.
    pub committed: u64,
}

/// A later term beats any number of entries, as in Raft's elections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub term: u64,
    pub index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(uint64, optional, tag = "1")]
    node_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster_id: Option<u64>,
}

/// raftpb.Entry, without what it says.
#[derive(Clone, PartialEq, prost::Message)]
struct WireEntry {
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    index: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HardState {
    #[prost(uint64, optional, tag = "1")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    vote: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    commit: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Snapshot {
    #[prost(uint64, optional, tag = "1")]
    index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(message, optional, tag = "3")]
    conf_state: Option<ConfState>,
}

/// raftpb.ConfState, of a cluster without learners.
#[derive(Clone, PartialEq, prost::Message)]
struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    voters: Vec<u64>,
}

/// What one file says.
#[derive(Debug, Default)]
struct Segment {
    metadata: Option<Metadata>,
    last: Option<Entry>,
    state: Option<HardState>,
    /// Of all records so far.
    crc: u32,
    /// Where the next record goes.
    end: u64,
    /// Nothing stands behind that.
    clean: bool,
}

/// Reads it; etcd may be writing meanwhile.
pub fn read(directory: &Path) -> Result<Log, WalError> {
    let (mut log, mut state) = (Log::default(), None);
    for path in segments(directory)?.iter().rev() {
        let segment = Segment::read(path)?;
        if let Some(metadata) = segment.metadata {
            (log.member, log.cluster) = (metadata.node_id.unwrap_or_default(), metadata.cluster_id.unwrap_or_default());
        }
        state = state.or(segment.state);
        if let Some(last) = segment.last {
            log.last = last;
            break;
        }
    }
    log.committed = state.unwrap_or_default().commit.unwrap_or_default();
    Ok(log)
}

/// Has every entry count, whether or not it was known that the others agree: some of them may have been acknowledged. etcd, which must not run,
/// would drop those entries when it is to go on alone. Doing it twice changes nothing. The index of the last entry.
pub fn commit_all(directory: &Path) -> Result<u64, WalError> {
    let log = read(directory)?;
    let path = segments(directory)?.pop().ok_or_else(|| WalError::Missing(directory.to_owned()))?;
    let segment = Segment::read(&path)?;
    if log.committed >= log.last.index {
        return Ok(log.last.index);
    }
    if !segment.clean {
        return Err(WalError::Torn(path));
    }
    // A file begins with the state of then.
    let state = segment.state.clone().unwrap_or_default();
    let term = state.term.unwrap_or_default().max(log.last.term);
    let state = HardState { term: Some(term), vote: state.vote, commit: Some(log.last.index) };
    segment.append(&path, STATE, state.encode_to_vec()).map_err(|error| WalError::Io(path, error))?;
    Ok(log.last.index)
}

/// Has the log begin behind this entry, which the database has: whoever joins is given the database first. etcd must not run.
pub fn begin_at(directory: &Path, entry: Entry) -> Result<(), WalError> {
    let log = read(directory)?;
    let path = segments(directory)?.pop().ok_or_else(|| WalError::Missing(directory.to_owned()))?;
    if entry.index > log.committed {
        // A database may know more than the log's last note: the commit is noted with the next entry only (raft's MustSync).
        commit_all(directory)?;
    }
    let segment = Segment::read(&path)?;
    if !segment.clean {
        return Err(WalError::Torn(path));
    }
    let voters = ConfState { voters: vec![log.member] };
    let snapshot = Snapshot { index: Some(entry.index), term: Some(entry.term), conf_state: Some(voters) };
    segment.append(&path, SNAPSHOT, snapshot.encode_to_vec()).map_err(|error| WalError::Io(path, error))
}

/// In the order in which they were written: their names are numbers.
fn segments(directory: &Path) -> Result<Vec<PathBuf>, WalError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(WalError::Missing(directory.to_owned())),
        Err(error) => return Err(WalError::Io(directory.to_owned(), error)),
    };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    paths.sort();
    if paths.is_empty() { Err(WalError::Missing(directory.to_owned())) } else { Ok(paths) }
}

impl Segment {
    fn read(path: &Path) -> Result<Segment, WalError> {
        let bytes = fs::read(path).map_err(|error| WalError::Io(path.to_owned(), error))?;
        let mut segment = Segment::default();
        while let Some((record, length)) = record_at(&bytes, segment.end as usize) {
            if !segment.take(record) {
                break;
            }
            segment.end += length as u64;
        }
        segment.clean = bytes.get(segment.end as usize..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0));
        Ok(segment)
    }

    /// Whether the record is whole.
    fn take(&mut self, record: Record) -> bool {
        let (kind, data) = (record.kind.unwrap_or_default(), record.data.unwrap_or_default());
        let crc = record.crc.unwrap_or_default();
        if kind == CHECKSUM {
            self.crc = crc;
            return true;
        }
        let sum = extend(self.crc, &data);
        if sum != crc {
            return false;
        }
        self.crc = sum;
        match kind {
            METADATA => self.metadata = Metadata::decode(&*data).ok(),
            ENTRY => {
                if let Ok(entry) = WireEntry::decode(&*data) {
                    self.last = Some(Entry { term: entry.term.unwrap_or_default(), index: entry.index.unwrap_or_default() });
                }
            }
            STATE => self.state = HardState::decode(&*data).ok(),
            _ => {}
        }
        true
    }

    fn append(&self, path: &Path, kind: i64, data: Vec<u8>) -> io::Result<()> {
        let record = Record { kind: Some(kind), crc: Some(extend(self.crc, &data)), data: Some(data) }.encode_to_vec();
        let padding = (8 - record.len() % 8) % 8;
        let mut length = record.len() as u64;
        if padding > 0 {
            length |= (0x80 | padding as u64) << 56;
        }
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&record);
        bytes.resize(bytes.len() + padding, 0);
        let file: File = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&bytes, self.end)?;
        file.sync_all()
    }
}

/// The record that begins there, and how long it is with its frame; none where the file ends, in its preallocated part, and where the
/// record does.
fn record_at(bytes: &[u8], offset: usize) -> Option<(Record, usize)> {
    let frame = u64::from_le_bytes(*bytes.get(offset..)?.first_chunk::<FRAME_BYTES>()?);
    let length = usize::try_from(frame & !(0xff << 56)).ok()?;
    // The highest bit says that there is padding, the lowest three of its byte how much.
    let padding = if frame >> 63 == 1 { (frame >> 56 & 0x7) as usize } else { 0 };
    if length == 0 {
        return None;
    }
    let start = offset + FRAME_BYTES;
    let record = Record::decode(bytes.get(start..start.checked_add(length)?)?).ok()?;
    Some((record, FRAME_BYTES + length + padding))
}

/// The checksum of what was summed before and these bytes.
fn extend(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = CASTAGNOLI.digest_with_initial((before ^ u32::MAX).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::played::{Etcd, keys};

    #[test]
    fn sums_go_on() {
        assert_eq!(extend(0, b"123456789"), 0xe306_9283);
        assert_eq!(extend(extend(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[tokio::test]
    async fn of_a_real_etcd() {
        let mut etcd = Etcd::start();
        let status = etcd.until_it_answers().await;
        for index in 0..20 {
            keys::put(etcd.access(), "/registry/thing", &format!("{index}").repeat(1000)).await.unwrap();
        }
        let directory = etcd.data().join("member/wal");
        let log = read(&directory).unwrap();
        assert_eq!((log.member, log.cluster), (status.member, status.cluster));
        assert!(log.last.index > 20 && log.last.term >= 2 && log.committed <= log.last.index, "{log:?}");
        // As if the last entries had been written here, and the leader had died before it told that they count.
        etcd.stop().await;
        let path = segments(&directory).unwrap().pop().unwrap();
        let segment = Segment::read(&path).unwrap();
        let state = HardState { commit: Some(log.last.index - 5), ..segment.state.clone().unwrap() };
        segment.append(&path, STATE, state.encode_to_vec()).unwrap();
        assert_eq!(read(&directory).unwrap().committed, log.last.index - 5);
        for _ in 0..2 {
            assert_eq!(commit_all(&directory).unwrap(), log.last.index);
            assert_eq!(read(&directory).unwrap(), Log { committed: log.last.index, ..log });
        }
        etcd.restart();
        etcd.until_it_answers().await;
        assert!(keys::all(etcd.access()).await.unwrap()["/registry/thing"].starts_with("19"));
        let longer = read(&directory).unwrap().last;
        assert!(longer > log.last, "etcd went on behind it: {longer:?}");
    }

    #[test]
    fn what_is_torn_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().ends_with("no log of etcd's is there"));
        let path = directory.path().join("0000000000000000-0000000000000000.wal");
        fs::write(&path, [0; 512]).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Log::default());
        let empty = Segment::read(&path).unwrap();
        let entry = WireEntry { term: Some(2), index: Some(7) };
        empty.append(&path, ENTRY, entry.encode_to_vec()).unwrap();
        let one = Segment::read(&path).unwrap();
        one.append(&path, ENTRY, WireEntry { index: Some(8), ..entry }.encode_to_vec()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[one.end as usize + 12] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(directory.path()).unwrap().last, Entry { term: 2, index: 7 });
        assert!(matches!(commit_all(directory.path()), Err(WalError::Torn(_))));
    }
}
