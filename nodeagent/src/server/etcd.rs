//! Service Etcd: etcd's cluster, through this control plane's member.

use std::time::Duration;

use api::v1::etcd_server;
use api::v1::{
    DefragmentEtcdRequest, DefragmentEtcdResponse, DisarmEtcdAlarmsRequest, DisarmEtcdAlarmsResponse, EtcdAlarm, EtcdMember,
    EtcdRestoreRequest, EtcdRestoreResponse, EtcdSnapshotRequest, EtcdSnapshotResponse, GetEtcdStatusRequest, GetEtcdStatusResponse,
    ListEtcdAlarmsRequest, ListEtcdAlarmsResponse, ListEtcdMembersRequest, ListEtcdMembersResponse, RecoverEtcdRequest,
    RecoverEtcdResponse, RejoinEtcdRequest, RejoinEtcdResponse, RemoveEtcdMemberRequest, RemoveEtcdMemberResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::machine::caller;
use super::stream::{Answers, Ended, Sink, answer};
use crate::etcd::maintenance::Alarm;
use crate::etcd::snapshot::Taking;
use crate::member::restore::Upload;
use crate::member::status::Report;
use crate::member::{Client, recovery, removal, status, upkeep};
use crate::node::Node;
use crate::power::hostname;
use crate::refusal::Refusal;
use crate::resources::etcd::{self, EtcdRole};

/// How long a client may send nothing in the middle of its snapshot.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Etcd(pub Node);

#[tonic::async_trait]
impl etcd_server::Etcd for Etcd {
    async fn list_members(&self, _: Request<ListEtcdMembersRequest>) -> Result<Response<ListEtcdMembersResponse>, Status> {
        let (members, cluster) = status::members(&self.0).await?;
        let members = members.into_iter().map(|(name, told)| member(name, told)).collect();
        Ok(Response::new(ListEtcdMembersResponse { members, cluster_id: format!("{cluster:x}") }))
    }

    async fn get_status(&self, _: Request<GetEtcdStatusRequest>) -> Result<Response<GetEtcdStatusResponse>, Status> {
        Ok(Response::new(told(status::report(&self.0).await?, hostname(&self.0))))
    }

    async fn remove_member(&self, request: Request<RemoveEtcdMemberRequest>) -> Result<Response<RemoveEtcdMemberResponse>, Status> {
        let RemoveEtcdMemberRequest { member, dry_run, force } = request.into_inner();
        Ok(Response::new(RemoveEtcdMemberResponse { plan: removal::remove(&self.0, &member, dry_run, force).await? }))
    }

    type SnapshotStream = Answers<EtcdSnapshotResponse>;

    async fn snapshot(&self, _: Request<EtcdSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let begun = Taking::begin(Client::new(&self.0)?.own()).await;
        let taking = begun.map_err(Refusal::etcd)?;
        Ok(Response::new(answer(|sink| pass_on(taking, sink))))
    }

    async fn restore(&self, request: Request<Streaming<EtcdRestoreRequest>>) -> Result<Response<EtcdRestoreResponse>, Status> {
        let by = caller(&request);
        let mut messages = request.into_inner();
        let Some(first) = next(&mut messages).await? else {
            return Err(Refusal::field("chunk", "no message; expected a snapshot").into());
        };
        let mut upload = Upload::begin(&self.0, &first.confirm, first.dry_run)?;
        upload.take(&first.chunk)?;
        while let Some(message) = next(&mut messages).await? {
            upload.take(&message.chunk)?;
        }
        let restored = tokio::task::spawn_blocking(move || upload.finish(&by)).await.map_err(|error| Refusal::Internal(error.into()))??;
        Ok(Response::new(EtcdRestoreResponse { plan: restored.plan, revision: restored.revision }))
    }

    async fn recover(&self, request: Request<RecoverEtcdRequest>) -> Result<Response<RecoverEtcdResponse>, Status> {
        let by = caller(&request);
        let RecoverEtcdRequest { confirm, dry_run } = request.into_inner();
        Ok(Response::new(RecoverEtcdResponse { plan: recovery::recover(&self.0, &confirm, dry_run, &by).await? }))
    }

    async fn rejoin(&self, request: Request<RejoinEtcdRequest>) -> Result<Response<RejoinEtcdResponse>, Status> {
        let by = caller(&request);
        let RejoinEtcdRequest { confirm, dry_run, force } = request.into_inner();
        Ok(Response::new(RejoinEtcdResponse { plan: recovery::rejoin(&self.0, &confirm, dry_run, force, &by).await? }))
    }

    async fn defragment(&self, request: Request<DefragmentEtcdRequest>) -> Result<Response<DefragmentEtcdResponse>, Status> {
        let DefragmentEtcdRequest { dry_run, force } = request.into_inner();
        let done = upkeep::defragment(&self.0, dry_run, force).await?;
        Ok(Response::new(DefragmentEtcdResponse { plan: done.plan, bytes_before: done.before_bytes, bytes_after: done.after_bytes }))
    }

    async fn list_alarms(&self, _: Request<ListEtcdAlarmsRequest>) -> Result<Response<ListEtcdAlarmsResponse>, Status> {
        Ok(Response::new(ListEtcdAlarmsResponse { alarms: upkeep::alarms(&self.0).await?.into_iter().map(alarm).collect() }))
    }

    async fn disarm_alarms(&self, request: Request<DisarmEtcdAlarmsRequest>) -> Result<Response<DisarmEtcdAlarmsResponse>, Status> {
        let disarmed = upkeep::disarm(&self.0, &request.into_inner().alarm).await?;
        Ok(Response::new(DisarmEtcdAlarmsResponse { alarms: disarmed.into_iter().map(alarm).collect() }))
    }
}

/// The next message; an error for a client that is silent.
async fn next(messages: &mut Streaming<EtcdRestoreRequest>) -> Result<Option<EtcdRestoreRequest>, Status> {
    let silent = || Refusal::state("STALLED", format!("nothing came for {} seconds", STALLED.as_secs()), "try again; nothing was changed");
    tokio::time::timeout(STALLED, messages.message()).await.map_err(|_| silent())?
}

async fn pass_on(mut taking: Taking, sink: Sink<EtcdSnapshotResponse>) -> Result<(), Ended> {
    while let Some(piece) = taking.next().await? {
        sink.send(EtcdSnapshotResponse { chunk: piece.bytes, remaining_bytes: piece.remaining }).await?;
    }
    Ok(())
}

fn member(name: String, told: etcd::EtcdMember) -> EtcdMember {
    let role = match told.role {
        EtcdRole::Leader => "leader",
        EtcdRole::Voter => "voter",
        EtcdRole::Learner => "learner",
        EtcdRole::Removed => "removed",
    };
    let id = told.id.to_string();
    EtcdMember {
        // One that never started goes by its identity.
        name: if name == id { String::new() } else { name },
        id,
        role: role.to_owned(),
        local: told.local,
        healthy: told.healthy,
        message: told.message,
        version: told.version,
        peer_urls: told.peer_urls,
        client_urls: told.client_urls,
    }
}

fn told(report: Report, hostname: String) -> GetEtcdStatusResponse {
    let hex = |id: u64| if id == 0 { String::new() } else { format!("{id:x}") };
    let mut answer = GetEtcdStatusResponse {
        member_id: hex(report.member().map(|id| id.0).unwrap_or_default()),
        cluster_id: hex(report.cluster().unwrap_or_default()),
        name: report.name,
        running: report.running.is_some(),
        quorum: report.quorum,
        waits_for: report.waits_for,
        hostname,
        ..Default::default()
    };
    if let Some(disk) = report.disk {
        (answer.log_term, answer.log_index, answer.database_bytes) = (disk.log.last.term, disk.log.last.index, disk.database_bytes);
        answer.raft_index = disk.log.committed;
        if let Some(position) = disk.position {
            (answer.raft_applied_index, answer.raft_term, answer.revision) = (position.index, position.term, position.revision);
        }
    }
    if let Some(status) = report.running {
        (answer.leader_id, answer.learner) = (hex(status.leader), status.learner);
        (answer.version, answer.storage_version, answer.errors) = (status.version, status.storage_version, status.errors);
        (answer.database_bytes, answer.database_used_bytes) = (status.database_bytes, status.database_used_bytes);
        (answer.raft_index, answer.raft_term, answer.raft_applied_index) = (status.index, status.term, status.applied);
        answer.revision = status.revision;
    }
    answer
}

fn alarm(alarm: Alarm) -> EtcdAlarm {
    EtcdAlarm { member_id: alarm.member.to_string(), alarm: alarm.kind.name().to_owned() }
}
