//! The kubelet's metrics beside ours, on the same machine in the same minute: names, types, labels, and value by value.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::exposition::{Family, Labels};

type Families = BTreeMap<String, Family>;

/// Families of the kubelet's that Corten does not have; docs/metrics.md says so.
pub const NOT_OURS: &[&str] = &[
    "cadvisor_version_info",
    "container_blkio_device_usage_total",
    "container_cpu_cfs_burst_periods_total",
    "container_cpu_cfs_burst_seconds_total",
    "container_cpu_load_average_10s",
    "container_cpu_load_d_average_10s",
    "container_creation_time_seconds",
    "container_file_descriptors",
    "container_fs_inodes_used",
    "container_fs_io_current",
    "container_fs_io_time_seconds_total",
    "container_fs_io_time_weighted_seconds_total",
    "container_fs_read_seconds_total",
    "container_fs_reads_merged_total",
    "container_fs_sector_reads_total",
    "container_fs_sector_writes_total",
    "container_fs_write_seconds_total",
    "container_fs_writes_merged_total",
    "container_health_state",
    "container_memory_file_dirty_bytes",
    "container_memory_file_writeback_bytes",
    "container_memory_max_usage_bytes",
    "container_memory_migrate",
    "container_memory_pgscan_total",
    "container_memory_pgsteal_total",
    "container_memory_total_active_anon_bytes",
    "container_memory_total_active_file_bytes",
    "container_memory_total_inactive_anon_bytes",
    "container_memory_workingset_refault_anon_total",
    "container_memory_workingset_refault_file_total",
    "container_processes",
    "container_scrape_error",
    "container_sockets",
    "container_spec_cpu_shares",
    "container_spec_memory_reservation_limit_bytes",
    "container_spec_memory_swap_limit_bytes",
    "container_tasks_state",
    "container_ulimits_soft",
    "machine_cpu_books",
    "machine_cpu_drawers",
    "machine_cpu_physical_cores",
    "machine_cpu_sockets",
    "machine_dimm_capacity_bytes",
    "machine_dimm_count",
    "machine_nvm_avg_power_budget_watts",
    "machine_nvm_capacity",
    "machine_scrape_error",
    "resource_scrape_error",
    "scrape_error",
];

/// How far two readings of one figure may be apart: this share of the greater, or so much, whichever is more. They are read at different
/// moments: the kubelet's may be 15 s old, of a machine that works.
const SHARE: f64 = 0.15;
const SLACK: &[(&str, f64)] = &[
    ("_seconds_total", 20.0),
    ("_start_time_seconds", 15.0),
    ("_bytes_total", 4e6),
    ("_bytes", 4e6),
    ("_rss", 4e6),
    ("_cache", 4e6),
    ("_mapped_file", 4e6),
    ("_kernel_usage", 4e6),
    ("_failures_total", 20_000.0),
    ("_packets_total", 2000.0),
    ("_fs_reads_total", 500.0),
    ("_fs_writes_total", 500.0),
    ("_periods_total", 200.0),
    ("_threads", 8.0),
];

/// A label of theirs that ours does not have: what one tells by device, the other tells of all together.
const NOT_COMPARED: &str = "device";

/// A label of ours may be missing in theirs, where one of their texts has fewer.
fn is_of(ours: &Labels, theirs: &Labels) -> bool {
    theirs.iter().filter(|(name, _)| *name != NOT_COMPARED).all(|(name, value)| ours.get(name).map_or("", String::as_str) == value)
}

/// How many values were compared; everything that does not agree, as one error.
pub fn compare(ours: &Families, theirs: &Families) -> anyhow::Result<usize> {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, family) in theirs.iter().filter(|(name, _)| !NOT_OURS.contains(&&***name)) {
        let Some(own) = ours.get(name) else {
            wrong.push(format!("{name} is missing: {:?}", family.series.first()));
            continue;
        };
        // A counter of OpenMetrics has a name that ends so.
        let may_count = own.kind == "untyped" && !name.ends_with("_total");
        if own.kind != family.kind && !family.kind.is_empty() && !may_count {
            wrong.push(format!("{name} is a {}, and a {} there", own.kind, family.kind));
        }
        for (labels, value) in of_pods(family) {
            match one(name, own, &labels, value) {
                Ok(()) => compared += 1,
                Err(error) => wrong.push(format!("{name}{labels:?}: {error:#}")),
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {} do not agree:\n{}", wrong.len(), compared + wrong.len(), wrong.join("\n"));
    Ok(compared)
}

/// Series of pods, containers and the machine, with devices taken together. What has no pod is a cgroup above pods, or a service, which the kubelet
/// knows by halves.
fn of_pods(family: &Family) -> BTreeMap<Labels, f64> {
    let mut all = BTreeMap::new();
    let named = |labels: &Labels| !labels.contains_key("id") || labels.get("pod").is_some_and(|pod| !pod.is_empty());
    for (labels, value) in family.series.iter().filter(|(labels, _)| named(labels)) {
        let mut labels = labels.clone();
        labels.remove("device");
        *all.entry(labels).or_default() += value;
    }
    all
}

fn one(name: &str, own: &Family, labels: &Labels, theirs: f64) -> anyhow::Result<()> {
    let found: Vec<f64> = own.series.iter().filter(|(ours, _)| is_of(ours, labels)).map(|(_, value)| *value).collect();
    let [ours] = found.as_slice() else { anyhow::bail!("{} of ours have these labels, of {}", found.len(), own.series.len()) };
    let slack = SLACK.iter().find(|(end, _)| name.ends_with(end)).map_or(1.0, |(_, slack)| *slack);
    let apart = (ours - theirs).abs();
    ensure!(apart <= slack.max(SHARE * ours.abs().max(theirs.abs())), "{ours}, and {theirs} there");
    Ok(())
}

#[test]
fn what_differs_is_found() {
    let parse = |text: &str| super::exposition::parse(text).context("parsing").unwrap();
    let theirs = parse(
        "# TYPE container_threads gauge\ncontainer_threads{id=\"/kubepods/a\",pod=\"a\"} 100\ncontainer_threads{id=\"/\",pod=\"\"} 5\n\
         # TYPE container_sockets gauge\ncontainer_sockets{id=\"/\"} 1\n",
    );
    let ours = |kind: &str, labels: &str, value: &str| {
        parse(&format!("# TYPE container_threads {kind}\ncontainer_threads{{{labels},image=\"\"}} {value}\n"))
    };
    let labels = "id=\"/kubepods/a\",pod=\"a\"";
    assert_eq!(compare(&ours("gauge", labels, "103"), &theirs).unwrap(), 1);
    for (ours, expected) in [
        (ours("gauge", labels, "130"), "130, and 100 there"),
        (ours("counter", labels, "100"), "is a counter, and a gauge there"),
        (ours("gauge", "id=\"/kubepods/b\",pod=\"b\"", "100"), "0 of ours have these labels, of 1"),
        (Families::new(), "container_threads is missing"),
    ] {
        let error = format!("{:#}", compare(&ours, &theirs).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    let devices = parse("# TYPE f counter\nf{device=\"a\",pod=\"x\"} 1\nf{device=\"b\",pod=\"x\"} 2\n");
    assert_eq!(compare(&parse("# TYPE f counter\nf{device=\"\",pod=\"x\"} 3\n"), &devices).unwrap(), 1);
}
