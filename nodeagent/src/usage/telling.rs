//! The figures as the API tells them: to people (`machinectl top`), and to control planes, which follow every node.

use std::time::Duration;

use ::api::v1::{Counters, GroupKind, GroupUsage, NodeUsage, PressureShares, StreamMetricsRequest, StreamMetricsResponse};
use metrics::node::{Node, TICKS};
use metrics::rates::Stalls;
use metrics::{Names, Place, Reading, Snapshot};

use super::changes::Changes;
use super::voices::HEARTBEAT;

/// What one client is told, answer by answer.
#[derive(Debug)]
pub struct Telling {
    node_only: bool,
    changes: Option<Changes>,
}

impl Telling {
    pub fn new(request: &StreamMetricsRequest) -> Telling {
        Telling { node_only: request.node_only, changes: request.pod_changes.then(Changes::default) }
    }

    /// As control planes ask: for the node, and for what changed of its pods.
    pub fn to_control_planes() -> StreamMetricsRequest {
        StreamMetricsRequest { interval: None, node_only: true, pod_changes: true, heartbeat: None }
    }

    /// As control planes ask each other, who have to find out soon which of them are gone.
    pub fn among_control_planes() -> StreamMetricsRequest {
        StreamMetricsRequest { heartbeat: prost_types::Duration::try_from(HEARTBEAT).ok(), ..Telling::to_control_planes() }
    }

    pub fn next(&mut self, snapshot: &Snapshot, names: &Names) -> StreamMetricsResponse {
        let groups = snapshot.groups.iter().filter(|_| !self.node_only);
        let mut groups: Vec<GroupUsage> = groups.filter_map(|reading| group(reading, names)).collect();
        groups.sort_by(|a, b| a.path.cmp(&b.path));
        StreamMetricsResponse {
            at: Some(snapshot.at.into()),
            node: Some(node(&snapshot.node)),
            groups,
            left_out: u32::try_from(snapshot.left_out).unwrap_or(u32::MAX),
            interval: prost_types::Duration::try_from(snapshot.interval).ok(),
            pods: self.changes.as_mut().map(|changes| changes.since_last(snapshot, names)),
        }
    }
}

fn node(node: &Node) -> NodeUsage {
    NodeUsage {
        cpus: u32::try_from(node.cpus.len()).unwrap_or(u32::MAX),
        cpus_used: node.rates.cpus,
        memory_total_bytes: node.memory.map(|memory| memory.total),
        memory_used_bytes: node.memory.map(|memory| memory.working_set()),
        load: node.load.map(Vec::from).unwrap_or_default(),
        pressure: pressure(node.rates.cpu_pressure, node.rates.memory_pressure, node.rates.io_pressure),
        counters: Some(Counters {
            cpu_usec: node.cpu.map(|cpu| (Duration::from_secs(cpu.all.busy()).as_micros() as f64 / TICKS) as u64),
            cpu_some_usec: node.cpu_pressure.map(|pressure| pressure.some_usec),
            memory_full_usec: node.memory_pressure.and_then(|pressure| pressure.full_usec),
            io_full_usec: node.io_pressure.and_then(|pressure| pressure.full_usec),
        }),
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
