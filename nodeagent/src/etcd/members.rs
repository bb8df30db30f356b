//! etcd's members: who they are, and who comes and goes (service Cluster in api/etcdserverpb/rpc.proto).

use std::time::Duration;

use controlplane::etcd::{Member, MemberId};
use tonic::{Code, Status as Failure};

use super::maintenance::{self, Status};
use super::{Access, QUICK, ask, ask_within};

const LIST: &str = "/etcdserverpb.Cluster/MemberList";
const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";

/// What one member knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Clusters that were made apart have different ones.
    pub id: u64,
    pub members: Vec<Member>,
    /// Who said so: `https://192.0.2.10:2379`.
    pub server: String,
}

/// How one etcd is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub member: u64,
    pub cluster: u64,
    /// 0 without one.
    pub leader: u64,
    pub learner: bool,
    /// `3.7.3`
    pub version: String,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

/// Whether a learner has its vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    Done,
    /// etcd's own words.
    NotYet(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMember {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(bool, tag = "1")]
    linearizable: bool,
}

/// MemberListResponse, MemberUpdateResponse, MemberRemoveResponse and MemberPromoteResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct MembersResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<WireMember>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AddRequest {
    #[prost(string, repeated, tag = "1")]
    peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AddResponse {
    #[prost(message, optional, tag = "2")]
    member: Option<WireMember>,
}

/// MemberRemoveRequest and MemberPromoteRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct OfMember {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, repeated, tag = "2")]
    peer_urls: Vec<String>,
}

impl From<WireMember> for Member {
    fn from(wire: WireMember) -> Member {
        let WireMember { id, name, peer_urls, client_urls, is_learner: learner } = wire;
        Member { id: MemberId(id), name, peer_urls, client_urls, learner }
    }
}

/// As the cluster agrees on: a member without quorum does not answer.
pub async fn list(access: Access<'_>) -> anyhow::Result<Cluster> {
    let answer: MembersResponse = ask_within(access, QUICK, LIST, ListRequest { linearizable: true }).await?;
    let members = answer.members.into_iter().map(Member::from).collect();
    Ok(Cluster { id: answer.header.unwrap_or_default().cluster_id, members, server: access.server.to_owned() })
}

/// Has the cluster know a member that does not vote.
pub async fn add_learner(access: Access<'_>, peer_url: &str) -> anyhow::Result<MemberId> {
    let question = AddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
    let answer: AddResponse = ask(access, ADD, question).await?;
    Ok(MemberId(answer.member.unwrap_or_default().id))
}

/// Has the others reach a member elsewhere.
pub async fn update(access: Access<'_>, id: MemberId, peer_url: &str) -> anyhow::Result<()> {
    let question = UpdateRequest { id: id.0, peer_urls: vec![peer_url.to_owned()] };
    ask(access, UPDATE, question).await.map(|_: MembersResponse| ())
}

/// One that is not there is removed already.
pub async fn remove(access: Access<'_>, id: MemberId) -> anyhow::Result<()> {
    match ask(access, REMOVE, OfMember { id: id.0 }).await.map(|_: MembersResponse| ()) {
        Err(error) if code(&error) == Some(Code::NotFound) => Ok(()),
        other => other,
    }
}

/// Gives a learner its vote, once it has caught up with the leader.
pub async fn promote(access: Access<'_>, id: MemberId) -> anyhow::Result<Promotion> {
    match ask(access, PROMOTE, OfMember { id: id.0 }).await.map(|_: MembersResponse| ()) {
        Ok(()) => Ok(Promotion::Done),
        // Either it lags behind, or it has its vote already: the list of members tells.
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) if failure.code() == Code::FailedPrecondition => Ok(Promotion::NotYet(failure.message().to_owned())),
            _ => Err(error),
        },
    }
}

pub async fn health(access: Access<'_>, deadline: Duration) -> anyhow::Result<Health> {
    let Status { member, cluster, leader, learner, version, errors, .. } = maintenance::status(access, deadline).await?;
    Ok(Health { member, cluster, leader, learner, version, errors })
}

fn code(error: &anyhow::Error) -> Option<Code> {
    error.downcast_ref::<Failure>().map(Failure::code)
}
