//! Service Machine: version, health and power.

use api::v1::machine_server;
use api::v1::{
    Boot, Check, GetHealthRequest, GetHealthResponse, GetVersionRequest, GetVersionResponse, ListBootsRequest, ListBootsResponse,
    RebootRequest, RebootResponse, ResetRequest, ResetResponse, ServiceSeen, ShutdownRequest, ShutdownResponse,
};
use machine::disk::Volume;
use machine::protocol::PowerAction;
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::Peer;
use super::config::duration;
use super::stream::{Answers, Ended, Sink, answer};
use crate::controllers::images;
use crate::health;
use crate::node::Node;
use crate::power::{Descent, hostname};
use crate::resources::boot;

#[derive(Debug)]
pub struct Machine(pub Api);

#[tonic::async_trait]
impl machine_server::Machine for Machine {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(version(&self.0.node)))
    }

    type GetHealthStream = Answers<GetHealthResponse>;

    async fn get_health(&self, request: Request<GetHealthRequest>) -> Result<Response<Self::GetHealthStream>, Status> {
        let wait = request.into_inner().wait.map(|wait| duration("wait", wait)).transpose()?;
        let node = self.0.node.clone();
        Ok(Response::new(answer(|sink| report_health(node, wait.map(|wait| Instant::now() + wait), sink))))
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Result<Response<RebootResponse>, Status> {
        let by = caller(&request);
        let RebootRequest { dry_run, force } = request.into_inner();
        let descent = Descent { action: PowerAction::Reboot, wipe: Vec::new(), by, force };
        Ok(Response::new(RebootResponse { plan: self.0.power.descend(descent, dry_run).await? }))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        let by = caller(&request);
        let ShutdownRequest { dry_run, force } = request.into_inner();
        let descent = Descent { action: PowerAction::PowerOff, wipe: Vec::new(), by, force };
        Ok(Response::new(ShutdownResponse { plan: self.0.power.descend(descent, dry_run).await? }))
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        let by = caller(&request);
        let ResetRequest { dry_run, volumes, confirm, power_off, force } = request.into_inner();
        let wipe: Vec<Volume> = self.0.power.reset(&volumes, &confirm, dry_run)?;
        let action = if power_off { PowerAction::PowerOff } else { PowerAction::Reboot };
        Ok(Response::new(ResetResponse { plan: self.0.power.descend(Descent { action, wipe, by, force }, dry_run).await? }))
    }

    async fn list_boots(&self, _: Request<ListBootsRequest>) -> Result<Response<ListBootsResponse>, Status> {
        let mut boots: Vec<boot::Boot> = self.0.node.store.all().into_values().collect();
        boots.sort_by_key(|boot| boot.record.number);
        Ok(Response::new(ListBootsResponse { boots: boots.into_iter().map(boot).collect() }))
    }
}

/// What runs, where, and how far it is.
pub fn version(node: &Node) -> GetVersionResponse {
    let boot = node.boot_facts();
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut version = GetVersionResponse {
        kernel,
        stage: node.stage().name().to_owned(),
        slot: boot.slot.map(|slot| slot.name().to_owned()).unwrap_or_default(),
        hostname: hostname(node),
        boot_id: boot.boot_id,
        ..Default::default()
    };
    if let Some(image) = images::facts(&node.root) {
        (version.version, version.profile) = (image.version, image.profile);
        (version.architecture, version.kubernetes) = (image.architecture, image.kubernetes);
    }
    version
}

/// Reports once, and with a deadline each time a check changes until all pass or the deadline is over.
async fn report_health(node: Node, until: Option<Instant>, sink: Sink<GetHealthResponse>) -> Result<(), Ended> {
    let mut board = node.store.revision();
    let mut told = None;
    loop {
        board.mark_unchanged();
        let report = report(&node);
        let over = report.healthy || until.is_none_or(|until| until <= Instant::now());
        if told.as_ref() != Some(&report) {
            told = Some(report.clone());
            sink.send(report).await?;
        }
        let Some(until) = until.filter(|_| !over) else { return Ok(()) };
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep_until(until) => {}
            gone = sink.gone() => return Err(gone.into()),
        }
    }
}

/// Each check and how it stands.
pub fn report(node: &Node) -> GetHealthResponse {
    let check = |(name, check): (&str, crate::resources::machine::Check)| Check {
        name: name.to_owned(),
        passed: check.passed,
        message: check.message,
    };
    let checks: Vec<Check> = health::checks(node).into_iter().map(check).collect();
    GetHealthResponse { healthy: checks.iter().all(|check| check.passed), checks }
}

fn boot(boot: boot::Boot) -> Boot {
    let record = boot.record;
    let at = |seconds: u64| (seconds > 0).then_some(Timestamp { seconds: seconds as i64, nanos: 0 });
    Boot {
        number: record.number,
        boot_id: record.boot_id,
        slot: record.slot.map(|slot| slot.name().to_owned()).unwrap_or_default(),
        version: record.image_version,
        started_at: at(record.started_at),
        ended_at: at(record.ended_at),
        ending: boot.ended,
        reason: boot.reason,
        kernel_log_tail: if record.crash_log.is_empty() { record.kernel_log_tail } else { record.crash_log },
        services: record.services.into_iter().map(|seen| ServiceSeen { id: seen.id, state: seen.state }).collect(),
        seen_at: at(record.seen_at),
    }
}

/// Who calls, as logs and records show it.
pub fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Peer>().map(ToString::to_string).unwrap_or_default()
}
