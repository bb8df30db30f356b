//! Service Config: apply, show, confirm and roll back machine configs.

use std::time::Duration;

use api::v1::config_server;
use api::v1::{
    ApplyRequest, ApplyResponse, ConfirmRequest, ConfirmResponse, DiffRequest, DiffResponse, Generation, GetConfigRequest,
    GetConfigResponse, ListGenerationsRequest, ListGenerationsResponse, Role, RollbackRequest, RollbackResponse,
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::Peer;
use crate::config::{Lines, Record, Trial, Wanted, masked};
use crate::refusal::Refusal;

#[derive(Debug)]
pub struct Config(pub Api);

#[tonic::async_trait]
impl config_server::Config for Config {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let by = subject(&request);
        let ApplyRequest { document, dry_run, revert_after } = request.into_inner();
        let revert_after = revert_after.map(|after| duration("revert_after", after)).transpose()?;
        let outcome = self.0.configs.apply(Wanted { document, dry_run, revert_after, by }).await?;
        Ok(Response::new(ApplyResponse {
            generation: outcome.generation,
            diff: outcome.diff,
            plan: outcome.plan,
            needs_reboot: outcome.needs_reboot,
        }))
    }

    async fn get(&self, request: Request<GetConfigRequest>) -> Result<Response<GetConfigResponse>, Status> {
        let (generation, text) = self.0.configs.document(request.get_ref().generation).await?;
        let text = if is_admin(&request) { text } else { masked(&text)? };
        Ok(Response::new(GetConfigResponse { generation, document: text.into_bytes() }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let DiffRequest { from, to } = request.into_inner();
        let (from, to, diff) = self.0.configs.diff(from, to).await?;
        Ok(Response::new(DiffResponse { from, to, diff }))
    }

    async fn list_generations(&self, _: Request<ListGenerationsRequest>) -> Result<Response<ListGenerationsResponse>, Status> {
        let (records, trial) = self.0.configs.list().await?;
        let current = self.0.node.config().map(|applied| applied.generation);
        let generations = records.into_iter().map(|record| generation(record, current, trial.as_ref())).collect();
        Ok(Response::new(ListGenerationsResponse { generations }))
    }

    async fn confirm(&self, _: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let generation = self.0.configs.confirm().await?;
        Ok(Response::new(ConfirmResponse { generation }))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        let by = subject(&request);
        let RollbackRequest { generation, dry_run } = request.into_inner();
        let outcome = self.0.configs.rollback(generation, dry_run, &by).await?;
        Ok(Response::new(RollbackResponse { generation: outcome.generation, diff: outcome.diff }))
    }
}

fn generation((record, lines): (Record, Lines), current: Option<u64>, trial: Option<&Trial>) -> Generation {
    let is_current = current == Some(record.number);
    Generation {
        number: record.number,
        applied_at: Some(seconds(record.applied_at)),
        applied_by: record.applied_by,
        current: is_current,
        digest: record.digest,
        revert_at: trial.filter(|_| is_current).map(|trial| seconds(trial.revert_at)),
        lines_added: lines.added,
        lines_removed: lines.removed,
    }
}

fn seconds(since_epoch: u64) -> Timestamp {
    Timestamp { seconds: since_epoch as i64, nanos: 0 }
}

/// A length of time of a request.
pub fn duration(field: &str, value: prost_types::Duration) -> Result<Duration, Refusal> {
    let text = format!("{} seconds; expected a length of time that is not negative", value.seconds);
    Duration::try_from(value).map_err(|_| Refusal::field(field, text))
}

fn subject<T>(request: &Request<T>) -> String {
    request.extensions().get::<Peer>().map(|peer| peer.subject().to_owned()).unwrap_or_default()
}

pub fn is_admin<T>(request: &Request<T>) -> bool {
    let identity = request.extensions().get::<Peer>().and_then(|peer| peer.identity.clone());
    identity.is_some_and(|identity| identity.role == Some(Role::Admin))
}
