//! Families of the machine as a whole, and of the collector itself.

use std::time::SystemTime;

use super::text::Kind::{Counter, Gauge, Untyped};
use super::text::{Kind, Text, labels};
use crate::collector::Snapshot;
use crate::identity::Identity;
use crate::node::{Disk, Interface, Memory, Node, TICKS, Vm};
use crate::sample::Pressure;

type Count<T> = fn(&T) -> u64;
type Value<T> = fn(&T) -> f64;

pub fn render(snapshot: &Snapshot, text: &mut Text) {
    let node = &snapshot.node;
    let cpus = Some(node.cpus.len()).filter(|cpus| *cpus > 0);
    let Identity { boot_id, machine_id, system_uuid } = &*snapshot.identity;
    let own = labels([("boot_id", boot_id.as_str()), ("machine_id", machine_id), ("system_uuid", system_uuid)]);
    text.labelled("machine_cpu_cores", Gauge, "CPUs that are on", &own, cpus.map(|cpus| cpus as f64));
    text.labelled("machine_memory_bytes", Gauge, "Memory of the machine", &own, node.memory.map(|memory| memory.total as f64));
    text.labelled("machine_swap_bytes", Gauge, "Swap of the machine", &own, node.memory.map(|memory| memory.swap_total as f64));
    processors(node, text);
    memory(node, text);
    pressure(node, text);
    disks(&node.disks, text);
    interfaces(&node.interfaces, text);
    let at = snapshot.at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    text.single("corten_metrics_sweep_time_seconds", Gauge, "When these figures were read, since 1970", at);
    let cost = Some(snapshot.cost.as_secs_f64());
    text.single("corten_metrics_sweep_cpu_seconds", Gauge, "CPU time that reading them takes, smoothed", cost);
    let interval = Some(snapshot.interval.as_secs_f64());
    text.single("corten_metrics_sweep_interval_seconds", Gauge, "From one reading to the next", interval);
    text.single("corten_metrics_cgroups", Gauge, "Cgroups that are read", Some(snapshot.groups.len() as f64));
    text.single("corten_metrics_cgroups_left_out", Gauge, "Cgroups that were too many to be read", Some(snapshot.left_out as f64));
}

fn processors(node: &Node, text: &mut Text) {
    if !node.cpus.is_empty() {
        text.family("node_cpu_seconds_total", Counter, "What each CPU did with its time");
    }
    for (cpu, modes) in &node.cpus {
        for (mode, ticks) in modes.named() {
            text.sample(&labels([("cpu", &*cpu.to_string()), ("mode", mode)]), ticks as f64 / TICKS);
        }
    }
    if let Some(cpu) = node.cpu {
        text.single("node_cpu_usage_seconds_total", Counter, "CPU time used by all", Some(cpu.all.busy() as f64 / TICKS));
        text.single("node_boot_time_seconds", Gauge, "When the machine was booted, since 1970", Some(cpu.boot_time as f64));
        text.single("node_context_switches_total", Counter, "Times that a CPU took another task", Some(cpu.context_switches as f64));
        text.single("node_forks_total", Counter, "Processes and threads made", Some(cpu.forks as f64));
        text.single("node_procs_running", Gauge, "Tasks that run or wait for a CPU", Some(cpu.running as f64));
        text.single("node_procs_blocked", Gauge, "Tasks that wait for I/O", Some(cpu.blocked as f64));
    }
    text.single("node_load1", Gauge, "Load of the last minute", node.load.map(|load| load[0]));
    text.single("node_load5", Gauge, "Load of the last 5 minutes", node.load.map(|load| load[1]));
    text.single("node_load15", Gauge, "Load of the last 15 minutes", node.load.map(|load| load[2]));
}

fn memory(node: &Node, text: &mut Text) {
    const MEMORY: [(&str, Count<Memory>); 11] = [
        ("node_memory_MemTotal_bytes", |memory| memory.total),
        ("node_memory_MemFree_bytes", |memory| memory.free),
        ("node_memory_MemAvailable_bytes", |memory| memory.available),
        ("node_memory_Buffers_bytes", |memory| memory.buffers),
        ("node_memory_Cached_bytes", |memory| memory.cached),
        ("node_memory_Inactive_file_bytes", |memory| memory.inactive_file),
        ("node_memory_SwapTotal_bytes", |memory| memory.swap_total),
        ("node_memory_SwapFree_bytes", |memory| memory.swap_free),
        ("node_memory_Dirty_bytes", |memory| memory.dirty),
        ("node_memory_Writeback_bytes", |memory| memory.writeback),
        ("node_memory_Slab_bytes", |memory| memory.slab),
    ];
    const VM: [(&str, Count<Vm>); 5] = [
        ("node_vmstat_pgfault", |vm| vm.page_faults),
        ("node_vmstat_pgmajfault", |vm| vm.major_page_faults),
        ("node_vmstat_pswpin", |vm| vm.swapped_in_pages),
        ("node_vmstat_pswpout", |vm| vm.swapped_out_pages),
        ("node_vmstat_oom_kill", |vm| vm.oom_kills),
    ];
    if let Some(memory) = &node.memory {
        let working_set = Some(memory.working_set() as f64);
        text.single("node_memory_working_set_bytes", Gauge, "Memory in use without inactive file pages", working_set);
        let swap = Some(memory.swap_total.saturating_sub(memory.swap_free) as f64);
        text.single("node_swap_usage_bytes", Gauge, "Swap in use", swap);
        MEMORY.iter().for_each(|(name, value)| text.single(name, Gauge, "Of /proc/meminfo", Some(value(memory) as f64)));
    }
    if let Some(vm) = &node.vm {
        VM.iter().for_each(|(name, value)| text.single(name, Untyped, "Of /proc/vmstat", Some(value(vm) as f64)));
    }
}

fn pressure(node: &Node, text: &mut Text) {
    let some = |pressure: Option<Pressure>| pressure.map(|pressure| pressure.some_usec as f64 / 1e6);
    let full = |pressure: Option<Pressure>| pressure.and_then(|pressure| pressure.full_usec).map(|usec| usec as f64 / 1e6);
    let (waiting, stalled) = ("Time in which some task waited", "Time in which all tasks waited");
    text.single("node_pressure_cpu_waiting_seconds_total", Counter, waiting, some(node.cpu_pressure));
    text.single("node_pressure_memory_waiting_seconds_total", Counter, waiting, some(node.memory_pressure));
    text.single("node_pressure_memory_stalled_seconds_total", Counter, stalled, full(node.memory_pressure));
    text.single("node_pressure_io_waiting_seconds_total", Counter, waiting, some(node.io_pressure));
    text.single("node_pressure_io_stalled_seconds_total", Counter, stalled, full(node.io_pressure));
}

fn disks(disks: &[Disk], text: &mut Text) {
    const FAMILIES: [(&str, Kind, &str, Value<Disk>); 9] = [
        ("node_disk_reads_completed_total", Counter, "Reads", |disk| disk.reads as f64),
        ("node_disk_read_bytes_total", Counter, "Bytes read", |disk| disk.read_bytes as f64),
        ("node_disk_read_time_seconds_total", Counter, "Time that reads took, added up", |disk| disk.read_msec as f64 / 1e3),
        ("node_disk_writes_completed_total", Counter, "Writes", |disk| disk.writes as f64),
        ("node_disk_written_bytes_total", Counter, "Bytes written", |disk| disk.written_bytes as f64),
        ("node_disk_write_time_seconds_total", Counter, "Time that writes took, added up", |disk| disk.write_msec as f64 / 1e3),
        ("node_disk_io_time_seconds_total", Counter, "Time in which something was under way", |disk| disk.busy_msec as f64 / 1e3),
        ("node_disk_io_time_weighted_seconds_total", Counter, "The same by how many were", |disk| disk.waited_msec as f64 / 1e3),
        ("node_disk_io_now", Gauge, "Requests under way", |disk| disk.under_way as f64),
    ];
    FAMILIES.iter().for_each(|(name, kind, help, value)| devices(disks, |disk| disk.name.as_str(), name, *kind, help, value, text));
}

fn interfaces(interfaces: &[Interface], text: &mut Text) {
    const FAMILIES: [(&str, &str, Value<Interface>); 8] = [
        ("node_network_receive_bytes_total", "Bytes received", |interface| interface.received.bytes as f64),
        ("node_network_receive_packets_total", "Packets received", |interface| interface.received.packets as f64),
        ("node_network_receive_errs_total", "Errors while receiving", |interface| interface.received.errors as f64),
        ("node_network_receive_drop_total", "Received packets dropped", |interface| interface.received.dropped as f64),
        ("node_network_transmit_bytes_total", "Bytes sent", |interface| interface.sent.bytes as f64),
        ("node_network_transmit_packets_total", "Packets sent", |interface| interface.sent.packets as f64),
        ("node_network_transmit_errs_total", "Errors while sending", |interface| interface.sent.errors as f64),
        ("node_network_transmit_drop_total", "Packets dropped instead of sent", |interface| interface.sent.dropped as f64),
    ];
    FAMILIES.iter().for_each(|(name, help, value)| {
        devices(interfaces, |interface| interface.name.as_str(), name, Counter, help, value, text);
    });
}

fn devices<D>(devices: &[D], label: fn(&D) -> &str, name: &'static str, kind: Kind, help: &str, value: &fn(&D) -> f64, text: &mut Text) {
    if !devices.is_empty() {
        text.family(name, kind, help);
    }
    devices.iter().for_each(|device| text.sample(&labels([("device", label(device))]), value(device)));
}
