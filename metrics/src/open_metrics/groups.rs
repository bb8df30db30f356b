//! Families of cgroups: services, pods and containers.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::text::{Kind, Text, labels};
use crate::collector::{Reading, Snapshot};
use crate::names::Names;
use crate::network::PodInterface;
use crate::node::Interface;
use crate::place::Place;
use crate::sample::{Cpu, Io, Memory, Pressure, Throttling};

type Value = fn(&Reading) -> Option<f64>;
type Count = fn(&Interface) -> u64;

/// Of CPU limits: the kubelet's own, to which others are converted.
const PERIOD_MICROS: f64 = 100_000.0;

/// Name, kind, labels besides those of the cgroup, help, and where the value comes from. A name that comes again is of the same family.
const FAMILIES: &[(&str, Kind, &str, &str, Value)] = {
    use Kind::{Counter, Gauge};
    &[
        ("container_cpu_usage_seconds_total", Counter, "cpu=\"total\"", "CPU time used", |r| cpu(r, |c| c.usage_usec)),
        ("container_cpu_user_seconds_total", Counter, "", "CPU time used by programs themselves", |r| cpu(r, |c| c.user_usec)),
        ("container_cpu_system_seconds_total", Counter, "", "CPU time used by the kernel for them", |r| cpu(r, |c| c.system_usec)),
        ("container_cpu_cfs_periods_total", Counter, "", "Periods of the CPU limit", |r| limited(r, |t| t.periods).map(|n| n as f64)),
        ("container_cpu_cfs_throttled_periods_total", Counter, "", "Periods in which the limit was reached", |r| {
            limited(r, |t| t.throttled_periods).map(|n| n as f64)
        }),
        ("container_cpu_cfs_throttled_seconds_total", Counter, "", "Time stopped by the CPU limit", |r| {
            limited(r, |t| t.throttled_usec).map(seconds)
        }),
        ("container_memory_usage_bytes", Gauge, "", "Memory in use, file pages included", |r| memory(r, |m| m.current)),
        ("container_memory_working_set_bytes", Gauge, "", "Memory in use without inactive file pages", |r| memory(r, Memory::working_set)),
        ("container_memory_rss", Gauge, "", "Anonymous memory", |r| memory(r, |m| m.anon)),
        ("container_memory_cache", Gauge, "", "File pages", |r| memory(r, |m| m.file)),
        ("container_memory_mapped_file", Gauge, "", "File pages that are mapped", |r| memory(r, |m| m.file_mapped)),
        ("container_memory_kernel_usage", Gauge, "", "Memory that the kernel uses for it", |r| memory(r, |m| m.kernel)),
        ("container_memory_total_inactive_file_bytes", Gauge, "", "File pages not used of late", |r| memory(r, |m| m.inactive_file)),
        ("container_memory_swap", Gauge, "", "Swap in use", |r| whole(r.sample.swap_bytes)),
        // The kubelet's `/metrics/resource` has its own name for it.
        ("container_swap_usage_bytes", Gauge, "", "Swap in use", |r| whole(r.sample.swap_bytes)),
        ("container_swap_limit_bytes", Gauge, "", "Swap that may be used", |r| whole(r.sample.limits.swap_bytes)),
        ("container_memory_failcnt", Kind::Untyped, "", "Times that the memory limit was reached", |r| {
            whole(r.sample.memory_events.map(|events| events.max))
        }),
        // With cgroup v2 a container is counted with what is below it: the kubelet tells both scopes, of the same number.
        ("container_memory_failures_total", Counter, "failure_type=\"pgfault\",scope=\"container\"", "Page faults", page_faults),
        ("container_memory_failures_total", Counter, "failure_type=\"pgfault\",scope=\"hierarchy\"", "Page faults", page_faults),
        ("container_memory_failures_total", Counter, "failure_type=\"pgmajfault\",scope=\"container\"", "Page faults", major_page_faults),
        ("container_memory_failures_total", Counter, "failure_type=\"pgmajfault\",scope=\"hierarchy\"", "Page faults", major_page_faults),
        ("container_memory_events_high_total", Counter, "", "Times that memory was throttled", |r| {
            whole(r.sample.memory_events.map(|events| events.high))
        }),
        ("container_memory_events_max_total", Counter, "", "Times that memory was about to exceed its limit", |r| {
            whole(r.sample.memory_events.map(|events| events.max))
        }),
        ("container_oom_events_total", Counter, "", "Processes killed for want of memory", |r| {
            whole(r.sample.memory_events.map(|events| events.oom_kill))
        }),
        ("container_hugetlb_usage_bytes", Gauge, "pagesize=\"2MB\"", "Huge pages in use", |r| whole(r.sample.huge_pages[0])),
        ("container_hugetlb_usage_bytes", Gauge, "pagesize=\"1GB\"", "Huge pages in use", |r| whole(r.sample.huge_pages[1])),
        ("container_fs_reads_bytes_total", Counter, "device=\"\"", "Bytes read, of all devices", |r| io(r, |io| io.read_bytes)),
        ("container_fs_writes_bytes_total", Counter, "device=\"\"", "Bytes written, to all devices", |r| io(r, |io| io.written_bytes)),
        ("container_fs_reads_total", Counter, "device=\"\"", "Reads, of all devices", |r| io(r, |io| io.reads)),
        ("container_fs_writes_total", Counter, "device=\"\"", "Writes, to all devices", |r| io(r, |io| io.writes)),
        ("container_threads", Gauge, "", "Processes and threads", |r| whole(r.sample.pids)),
        ("container_threads_max", Gauge, "", "Processes and threads that there may be; 0 without a limit", |r| {
            r.sample.pids.map(|_| r.sample.limits.pids.unwrap_or(0) as f64)
        }),
        ("container_pressure_cpu_waiting_seconds_total", Counter, "", "Time in which some task waited for a CPU", |r| {
            some(r.sample.cpu_pressure)
        }),
        ("container_pressure_cpu_stalled_seconds_total", Counter, "", "Time in which all tasks waited for a CPU", |r| {
            full(r.sample.cpu_pressure)
        }),
        ("container_pressure_memory_waiting_seconds_total", Counter, "", "Time in which some task waited for memory", |r| {
            some(r.sample.memory_pressure)
        }),
        ("container_pressure_memory_stalled_seconds_total", Counter, "", "Time in which all tasks waited for memory", |r| {
            full(r.sample.memory_pressure)
        }),
        ("container_pressure_io_waiting_seconds_total", Counter, "", "Time in which some task waited for I/O", |r| {
            some(r.sample.io_pressure)
        }),
        ("container_pressure_io_stalled_seconds_total", Counter, "", "Time in which all tasks waited for I/O", |r| {
            full(r.sample.io_pressure)
        }),
        ("container_spec_cpu_quota", Gauge, "", "CPU time allowed in a period of 100 ms, in microseconds", |r| {
            Some(r.sample.limits.cpus? * PERIOD_MICROS)
        }),
        ("container_spec_cpu_period", Gauge, "", "Period of the CPU limit, in microseconds", |r| r.sample.cpu.map(|_| PERIOD_MICROS)),
        ("container_spec_memory_limit_bytes", Gauge, "", "Memory that may be used; 0 without a limit", |r| {
            r.sample.memory.map(|_| r.sample.limits.memory_bytes.unwrap_or(0) as f64)
        }),
        ("container_start_time_seconds", Gauge, "", "When the cgroup was made, since 1970", |r| since_1970(r.since)),
    ]
};

pub fn render(snapshot: &Snapshot, names: &Names, text: &mut Text) {
    let labels: Vec<String> = snapshot.groups.iter().map(|reading| labels_of(reading, names)).collect();
    let mut begun = "";
    for (name, kind, more, help, value) in FAMILIES {
        for (reading, labels) in snapshot.groups.iter().zip(&labels) {
            let Some(value) = value(reading) else { continue };
            // A family that nobody has is not headed.
            if begun != *name {
                text.family(name, *kind, help);
                begun = name;
            }
            let separator = if more.is_empty() { "" } else { "," };
            text.sample(&format!("{labels}{separator}{more}"), value);
        }
    }
    let at = since_1970(snapshot.at).filter(|_| !labels.is_empty());
    if let Some(at) = at {
        text.family("container_last_seen", Kind::Gauge, "When these figures were read, since 1970");
        labels.iter().for_each(|labels| text.sample(labels, at));
    }
    networks(snapshot, &labels, text);
    pods(snapshot, names, text);
}

/// With the labels of the pod's sandbox, as the kubelet has them.
fn networks(snapshot: &Snapshot, labels: &[String], text: &mut Text) {
    const NETWORKS: [(&str, &str, Count); 8] = [
        ("container_network_receive_bytes_total", "Bytes received", |interface| interface.received.bytes),
        ("container_network_receive_packets_total", "Packets received", |interface| interface.received.packets),
        ("container_network_receive_errors_total", "Errors while receiving", |interface| interface.received.errors),
        ("container_network_receive_packets_dropped_total", "Received packets dropped", |interface| interface.received.dropped),
        ("container_network_transmit_bytes_total", "Bytes sent", |interface| interface.sent.bytes),
        ("container_network_transmit_packets_total", "Packets sent", |interface| interface.sent.packets),
        ("container_network_transmit_errors_total", "Errors while sending", |interface| interface.sent.errors),
        ("container_network_transmit_packets_dropped_total", "Packets dropped instead of sent", |interface| interface.sent.dropped),
    ];
    if snapshot.networks.is_empty() {
        return;
    }
    for (name, help, value) in NETWORKS {
        text.family(name, Kind::Counter, help);
        for PodInterface { group, interface } in &snapshot.networks {
            let Some(labels) = labels.get(*group) else { continue };
            let interface_label = super::text::labels([("interface", interface.name.as_str())]);
            text.sample(&format!("{labels},{interface_label}"), value(interface) as f64);
        }
    }
}

/// As in the kubelet's `/metrics/resource`.
fn pods(snapshot: &Snapshot, names: &Names, text: &mut Text) {
    const PODS: [(&str, Kind, &str, Value); 3] = [
        ("pod_cpu_usage_seconds_total", Kind::Counter, "CPU time used by the pod", |r| cpu(r, |c| c.usage_usec)),
        ("pod_memory_working_set_bytes", Kind::Gauge, "Memory of the pod in use without inactive file pages", |r| {
            memory(r, Memory::working_set)
        }),
        ("pod_swap_usage_bytes", Kind::Gauge, "Swap that the pod uses", |r| whole(r.sample.swap_bytes)),
    ];
    // By name: a pod without one yet is left out, and of two that follow each other under one name the newer is told of.
    let mut named: BTreeMap<(&str, &str), &Reading> = BTreeMap::new();
    for reading in snapshot.groups.iter().filter(|reading| matches!(reading.place, Place::Pod(..)) && !names.lacks(&reading.place)) {
        let called = names.of(&reading.place);
        let known = named.entry((called.namespace, called.pod)).or_insert(reading);
        if known.since < reading.since {
            *known = reading;
        }
    }
    for (name, kind, help, value) in PODS {
        let mut values = named.iter().filter_map(|(called, reading)| Some((called, value(reading)?))).peekable();
        if values.peek().is_some() {
            text.family(name, kind, help);
        }
        values.for_each(|((namespace, pod), value)| text.sample(&labels([("namespace", *namespace), ("pod", *pod)]), value));
    }
}

/// The labels that the kubelet gives (pkg/kubelet/server, containerPrometheusLabelsFunc).
pub fn labels_of(reading: &Reading, names: &Names) -> String {
    let (called, path) = (names.of(&reading.place), reading.place.to_string());
    labels([
        ("container", called.container),
        ("id", &path),
        ("image", called.image),
        ("name", called.id),
        ("namespace", called.namespace),
        ("pod", called.pod),
    ])
}

fn seconds(usec: u64) -> f64 {
    usec as f64 / 1e6
}

fn whole(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn cpu(reading: &Reading, of: fn(&Cpu) -> u64) -> Option<f64> {
    reading.sample.cpu.as_ref().map(of).map(seconds)
}

fn limited(reading: &Reading, of: fn(&Throttling) -> u64) -> Option<u64> {
    Some(of(&reading.sample.cpu?.throttling?))
}

fn memory(reading: &Reading, of: fn(&Memory) -> u64) -> Option<f64> {
    whole(reading.sample.memory.as_ref().map(of))
}

fn page_faults(reading: &Reading) -> Option<f64> {
    memory(reading, |memory| memory.page_faults)
}

fn major_page_faults(reading: &Reading) -> Option<f64> {
    memory(reading, |memory| memory.major_page_faults)
}

fn io(reading: &Reading, of: fn(&Io) -> u64) -> Option<f64> {
    whole(reading.sample.io.as_ref().map(of))
}

fn some(pressure: Option<Pressure>) -> Option<f64> {
    pressure.map(|pressure| seconds(pressure.some_usec))
}

fn full(pressure: Option<Pressure>) -> Option<f64> {
    pressure?.full_usec.map(seconds)
}

fn since_1970(time: SystemTime) -> Option<f64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}
