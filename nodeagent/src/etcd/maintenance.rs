//! How one member is, and its upkeep (service Maintenance in api/etcdserverpb/rpc.proto).

use std::time::Duration;

use controlplane::etcd::MemberId;

use super::{Access, ask, ask_within};

const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";

/// How long etcd may take to write its database anew: 4 GiB on a slow disk.
pub const DEFRAGMENT_WITHIN: Duration = Duration::from_secs(20 * 60);

/// What one member says of itself, whether or not it has a quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub member: u64,
    pub cluster: u64,
    /// Of the data.
    pub revision: u64,
    /// 0 without one.
    pub leader: u64,
    pub learner: bool,
    /// `3.7.3`
    pub version: String,
    /// `3.7.0`; empty while etcd has not noted it.
    pub storage_version: String,
    pub database_bytes: u64,
    pub database_used_bytes: u64,
    /// Up to where the cluster agreed, as far as this member knows.
    pub index: u64,
    pub term: u64,
    pub applied: u64,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// The database has reached its limit: the cluster takes no writes.
    NoSpace,
    /// The member's data differs from the others'.
    Corrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    pub member: MemberId,
    pub kind: AlarmKind,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// StatusRequest and DefragmentRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(int64, tag = "3")]
    db_size: i64,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    raft_index: u64,
    #[prost(uint64, tag = "6")]
    raft_term: u64,
    #[prost(uint64, tag = "7")]
    raft_applied_index: u64,
    #[prost(string, repeated, tag = "8")]
    errors: Vec<String>,
    #[prost(int64, tag = "9")]
    db_size_in_use: i64,
    #[prost(bool, tag = "10")]
    is_learner: bool,
    #[prost(string, tag = "11")]
    storage_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DefragmentResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct AlarmRequest {
    /// One of the two below.
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int32, tag = "3")]
    alarm: i32,
}

const GET: i32 = 0;
const DEACTIVATE: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct AlarmMember {
    #[prost(uint64, tag = "1")]
    member_id: u64,
    #[prost(int32, tag = "2")]
    alarm: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AlarmResponse {
    #[prost(message, repeated, tag = "2")]
    alarms: Vec<AlarmMember>,
}

impl AlarmKind {
    pub const ALL: [AlarmKind; 2] = [AlarmKind::NoSpace, AlarmKind::Corrupt];

    /// As etcd spells it.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        }
    }

    fn number(self) -> i32 {
        match self {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        }
    }
}

pub async fn status(access: Access<'_>, deadline: Duration) -> anyhow::Result<Status> {
    let answer: StatusResponse = ask_within(access, deadline, STATUS, Empty {}).await?;
    let header = answer.header.unwrap_or_default();
    let bytes = |size: i64| u64::try_from(size).unwrap_or_default();
    Ok(Status {
        member: header.member_id,
        cluster: header.cluster_id,
        revision: bytes(header.revision),
        leader: answer.leader,
        learner: answer.is_learner,
        version: answer.version,
        storage_version: answer.storage_version,
        database_bytes: bytes(answer.db_size),
        database_used_bytes: bytes(answer.db_size_in_use),
        index: answer.raft_index,
        term: answer.raft_term,
        applied: answer.raft_applied_index,
        errors: answer.errors,
    })
}

/// Writes the database anew without what is free in it; meanwhile this member answers nobody.
pub async fn defragment(access: Access<'_>) -> anyhow::Result<()> {
    ask_within(access, DEFRAGMENT_WITHIN, DEFRAGMENT, Empty {}).await.map(|_: DefragmentResponse| ())
}

pub async fn alarms(access: Access<'_>) -> anyhow::Result<Vec<Alarm>> {
    alarm(access, AlarmRequest { action: GET, member_id: 0, alarm: 0 }).await
}

pub async fn disarm(access: Access<'_>, alarm: Alarm) -> anyhow::Result<()> {
    let question = AlarmRequest { action: DEACTIVATE, member_id: alarm.member.0, alarm: alarm.kind.number() };
    self::alarm(access, question).await.map(drop)
}

async fn alarm(access: Access<'_>, question: AlarmRequest) -> anyhow::Result<Vec<Alarm>> {
    let answer: AlarmResponse = ask(access, ALARM, question).await?;
    let known = |alarm: AlarmMember| {
        let kind = AlarmKind::ALL.into_iter().find(|kind| kind.number() == alarm.alarm)?;
        Some(Alarm { member: MemberId(alarm.member_id), kind })
    };
    Ok(answer.alarms.into_iter().filter_map(known).collect())
}
