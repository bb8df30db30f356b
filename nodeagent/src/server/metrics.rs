//! Service Metrics: what the machine, its services, pods and containers use.

use std::time::Duration;

use ::metrics::rates::Stalls;
use ::metrics::{Names, Place, Reading, Snapshot};
use api::v1::metrics_server;
use api::v1::{GroupKind, GroupUsage, NodeUsage, PressureShares, StreamMetricsRequest, StreamMetricsResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Sink, answer};
use crate::refusal::Refusal;
use crate::usage::Usage;

#[derive(Debug)]
pub struct Metrics(pub Usage);

/// Nobody asks for figures older than this.
const LONGEST: Duration = Duration::from_secs(3600);

#[tonic::async_trait]
impl metrics_server::Metrics for Metrics {
    type StreamStream = Answers<StreamMetricsResponse>;

    async fn stream(&self, request: Request<StreamMetricsRequest>) -> Result<Response<Self::StreamStream>, Status> {
        let interval = interval(request.get_ref())?;
        let (usage, node_only) = (self.0.clone(), request.get_ref().node_only);
        Ok(Response::new(answer(move |sink| follow(usage, interval, node_only, sink))))
    }
}

fn interval(request: &StreamMetricsRequest) -> Result<Duration, Refusal> {
    let Some(asked) = request.interval else { return Ok(Duration::ZERO) };
    let wrong = || Refusal::field("interval", format!("{asked}; expected a duration from 0 s to 1 h"));
    Duration::try_from(asked).ok().filter(|interval| *interval <= LONGEST).ok_or_else(wrong)
}

/// The newest figures, again and again. Those that come while the client does not read are left out.
async fn follow(mut usage: Usage, interval: Duration, node_only: bool, sink: Sink<StreamMetricsResponse>) -> Result<(), Ended> {
    loop {
        let begun = Instant::now();
        let (snapshot, names) = usage.newest();
        sink.send(message(&snapshot, &names, node_only)).await?;
        // The snapshot is used again once nobody holds it.
        drop((snapshot, names));
        tokio::select! {
            () = tokio::time::sleep_until(begun + interval) => {}
            gone = sink.gone() => return Err(gone.into()),
        }
        tokio::select! {
            more = usage.changed() => if !more { return Ok(()) },
            gone = sink.gone() => return Err(gone.into()),
        }
    }
}

fn message(snapshot: &Snapshot, names: &Names, node_only: bool) -> StreamMetricsResponse {
    let groups = snapshot.groups.iter().filter(|_| !node_only);
    let mut groups: Vec<GroupUsage> = groups.filter_map(|reading| group(reading, names)).collect();
    groups.sort_by(|a, b| a.path.cmp(&b.path));
    StreamMetricsResponse {
        at: Some(snapshot.at.into()),
        node: Some(node(snapshot)),
        groups,
        left_out: u32::try_from(snapshot.left_out).unwrap_or(u32::MAX),
        interval: prost_types::Duration::try_from(snapshot.interval).ok(),
    }
}

fn node(snapshot: &Snapshot) -> NodeUsage {
    let node = &snapshot.node;
    NodeUsage {
        cpus: u32::try_from(node.cpus.len()).unwrap_or(u32::MAX),
        cpus_used: node.rates.cpus,
        memory_total_bytes: node.memory.map(|memory| memory.total),
        memory_used_bytes: node.memory.map(|memory| memory.working_set()),
        load: node.load.map(Vec::from).unwrap_or_default(),
        pressure: pressure(node.rates.cpu_pressure, node.rates.memory_pressure, node.rates.io_pressure),
    }
}

/// None for the root: that is the node.
fn group(reading: &Reading, names: &Names) -> Option<GroupUsage> {
    let Reading { place, sample, rates, .. } = reading;
    let (kind, service) = match place {
        Place::Root => return None,
        Place::Init | Place::Slice(_) | Place::Pods(_) => (GroupKind::Branch, ""),
        Place::Service(service) => (GroupKind::Service, &*service.name),
        Place::Pod(..) => (GroupKind::Pod, ""),
        Place::Container(..) => (GroupKind::Container, ""),
    };
    let called = names.of(place);
    Some(GroupUsage {
        path: place.to_string(),
        kind: kind.into(),
        service: service.to_owned(),
        namespace: called.namespace.to_owned(),
        pod: called.pod.to_owned(),
        container: called.container.to_owned(),
        cpus_used: rates.cpus,
        cpus_limit: sample.limits.cpus,
        throttled: rates.throttled,
        memory_used_bytes: sample.memory.map(|memory| memory.working_set()),
        memory_limit_bytes: sample.limits.memory_bytes,
        swap_used_bytes: sample.swap_bytes,
        read_bytes_per_second: rates.read_bytes,
        written_bytes_per_second: rates.written_bytes,
        tasks: sample.pids,
        memory_kills: sample.memory_events.map(|events| events.oom_kill),
        pressure: pressure(rates.cpu_pressure, rates.memory_pressure, rates.io_pressure),
    })
}

/// None where the kernel tells of none.
fn pressure(cpu: Stalls, memory: Stalls, io: Stalls) -> Option<PressureShares> {
    let shares = PressureShares {
        cpu_some: cpu.some,
        cpu_full: cpu.full,
        memory_some: memory.some,
        memory_full: memory.full,
        io_some: io.some,
        io_full: io.full,
    };
    (shares != PressureShares::default()).then_some(shares)
}
