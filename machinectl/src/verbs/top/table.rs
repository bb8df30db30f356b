//! Figures as a table for people and as values for programs.

use std::cmp::Reverse;

use api::v1::{GroupKind, GroupUsage, NodeUsage, PressureShares};
use dashboard::figures::{bytes, cpus, longest, percent};
use serde_json::{Map, Value, json};

use super::waits::Waits;
use super::{Answers, Row, Sort, What};
use crate::output::Table;

/// `waits`: how the longest wait went, for whoever watches.
pub(super) fn table(what: What, rows: &[Row], machines: usize, waits: Option<&Waits>, wide: bool) -> Table {
    let mut table = Table::default();
    let Some(first) = rows.first() else {
        table.headings = vec![heading(what).to_owned()];
        return table;
    };
    // Of one machine's services and pods, its name says nothing.
    let skip = usize::from(what != What::Nodes && machines == 1);
    table.headings.extend(first.names.iter().skip(skip).map(|(heading, _)| (*heading).to_owned()));
    table.headings.extend(["CPU", "MEMORY"].map(str::to_owned));
    table.headings.extend(first.more.iter().map(|(heading, _, _)| (*heading).to_owned()));
    table.headings.extend(["WAIT CPU", "WAIT MEMORY", "WAIT IO"].map(str::to_owned));
    if wide {
        table.headings.extend(["STALL CPU", "STALL MEMORY", "STALL IO", "TASKS", "READ", "WRITTEN"].map(str::to_owned));
    }
    table.headings.extend(waits.map(|_| "LONGEST WAIT".to_owned()));
    for row in rows {
        let mut cells: Vec<String> = row.names.iter().skip(skip).map(|(_, name)| name.clone()).collect();
        cells.extend([cpus(row.cpus), bytes(row.memory_bytes)]);
        cells.extend(row.more.iter().map(|(_, cell, _)| cell.clone()));
        cells.extend([row.pressure.cpu_some, row.pressure.memory_some, row.pressure.io_some].map(percent));
        if wide {
            cells.extend([row.pressure.cpu_full, row.pressure.memory_full, row.pressure.io_full].map(percent));
            cells.push(row.tasks.map(|tasks| tasks.to_string()).unwrap_or_default());
            cells.extend(
                [row.read_bytes, row.written_bytes].map(|rate| rate.map(|rate| bytes(Some(rate as u64)) + "/s").unwrap_or_default()),
            );
        }
        cells.extend(waits.map(|waits| waits.drawn(row)));
        table.rows.push(cells);
    }
    table
}

pub(super) fn values(rows: &[Row]) -> Value {
    rows.iter().map(value).collect()
}

pub(super) fn rows(what: What, sort: Sort, machines: &Answers) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (name, answer) in machines {
        match what {
            What::Nodes => rows.extend(answer.node.iter().map(|usage| node(name, usage))),
            What::Services => rows.extend(of_kind(name, &answer.groups, GroupKind::Service)),
            What::Pods => rows.extend(of_kind(name, &answer.groups, GroupKind::Pod)),
            What::Containers => rows.extend(of_kind(name, &answer.groups, GroupKind::Container)),
        }
    }
    rows.sort_by_cached_key(|row| (Reverse(weight(sort, row)), row.names.clone()));
    rows
}

fn heading(what: What) -> &'static str {
    match what {
        What::Nodes => "NODE",
        What::Services => "SERVICE",
        What::Pods => "POD",
        What::Containers => "CONTAINER",
    }
}

/// What is not known comes last.
fn weight(sort: Sort, row: &Row) -> Option<u64> {
    let fine = |value: f64| (value * 1e6) as u64;
    match sort {
        Sort::Cpu => row.cpus.map(fine),
        Sort::Memory => row.memory_bytes,
        Sort::Pressure => longest(&row.pressure).map(fine),
        Sort::Io => [row.read_bytes, row.written_bytes].into_iter().flatten().map(|rate| rate as u64).reduce(u64::saturating_add),
        Sort::Name => None,
    }
}

fn node(name: &str, usage: &NodeUsage) -> Row {
    let share = |used: Option<f64>, of: f64| used.filter(|_| of > 0.0).map(|used| used / of);
    let cpu = share(usage.cpus_used, f64::from(usage.cpus));
    let memory = share(usage.memory_used_bytes.map(|bytes| bytes as f64), usage.memory_total_bytes.unwrap_or(0) as f64);
    Row {
        names: vec![("NODE", name.to_owned())],
        cpus: usage.cpus_used,
        memory_bytes: usage.memory_used_bytes,
        pressure: usage.pressure.unwrap_or_default(),
        more: vec![
            ("CPU%", percent(cpu), json!(cpu)),
            ("MEMORY%", percent(memory), json!(memory)),
            ("LOAD", usage.load.first().map(|load| format!("{load:.2}")).unwrap_or_default(), json!(usage.load.first())),
        ],
        ..Row::default()
    }
}

/// Rows of one kind; a pod's sandbox is not shown as a container of its own.
fn of_kind<'a>(machine: &'a str, groups: &'a [GroupUsage], kind: GroupKind) -> impl Iterator<Item = Row> + 'a {
    let wanted = move |group: &&GroupUsage| group.kind() == kind && !(kind == GroupKind::Container && is_sandbox(group));
    groups.iter().filter(wanted).map(move |group| Row {
        names: [vec![("NODE", machine.to_owned())], names(group, kind)].concat(),
        cpus: group.cpus_used,
        memory_bytes: group.memory_used_bytes,
        tasks: group.tasks,
        read_bytes: group.read_bytes_per_second,
        written_bytes: group.written_bytes_per_second,
        pressure: group.pressure.unwrap_or_default(),
        more: Vec::new(),
    })
}

/// The runtime knows its pod, and the kubelet gave it no name.
fn is_sandbox(group: &GroupUsage) -> bool {
    group.container.is_empty() && !group.pod.is_empty()
}

/// One whose name is not known yet is called by its cgroup.
fn names(group: &GroupUsage, kind: GroupKind) -> Vec<(&'static str, String)> {
    let last = || group.path.rsplit('/').next().unwrap_or_default().to_owned();
    let or_last = |name: &str| if name.is_empty() { last() } else { name.to_owned() };
    match kind {
        GroupKind::Pod => vec![("NAMESPACE", group.namespace.clone()), ("POD", or_last(&group.pod))],
        GroupKind::Container => {
            vec![("NAMESPACE", group.namespace.clone()), ("POD", group.pod.clone()), ("CONTAINER", or_last(&group.container))]
        }
        _ => vec![("SERVICE", or_last(&group.service))],
    }
}

fn value(row: &Row) -> Value {
    let mut value: Map<String, Value> = row.names.iter().map(|(heading, name)| (heading.to_lowercase(), json!(name))).collect();
    let PressureShares { cpu_some, cpu_full, memory_some, memory_full, io_some, io_full } = row.pressure;
    let numbers = [
        ("cpus", json!(row.cpus)),
        ("memoryBytes", json!(row.memory_bytes)),
        ("tasks", json!(row.tasks)),
        ("readBytesPerSecond", json!(row.read_bytes)),
        ("writtenBytesPerSecond", json!(row.written_bytes)),
        (
            "pressure",
            json!({ "cpu": { "some": cpu_some, "full": cpu_full }, "memory": { "some": memory_some, "full": memory_full }, "io": { "some": io_some, "full": io_full } }),
        ),
    ];
    value.extend(numbers.into_iter().filter(|(_, number)| !number.is_null()).map(|(name, number)| (name.to_owned(), number)));
    let more = row.more.iter().map(|(heading, _, number)| (heading.replace('%', "Share").to_lowercase(), number.clone()));
    value.extend(more.map(|(name, number)| (name.replace("share", "Share"), number)));
    Value::Object(value)
}

#[cfg(test)]
mod tests {
    use api::v1::StreamMetricsResponse;

    use super::*;

    fn pod(name: &str, cpus_used: Option<f64>, memory: u64, memory_some: f64) -> GroupUsage {
        GroupUsage {
            path: format!("/kubepods/pod{name}"),
            kind: GroupKind::Pod.into(),
            namespace: "shop".to_owned(),
            pod: name.to_owned(),
            cpus_used,
            memory_used_bytes: Some(memory),
            pressure: Some(PressureShares { cpu_some: Some(0.0), memory_some: Some(memory_some), ..Default::default() }),
            ..Default::default()
        }
    }

    fn machines() -> Answers {
        let node = NodeUsage {
            cpus: 4,
            cpus_used: Some(1.0),
            memory_total_bytes: Some(8 << 30),
            memory_used_bytes: Some(2 << 30),
            load: vec![0.5, 0.25, 0.125],
            ..Default::default()
        };
        let groups = vec![pod("idle", None, 5 << 20, 0.5), pod("busy", Some(0.75), 300 << 10, 0.0)];
        let answer = StreamMetricsResponse { node: Some(node), groups, ..Default::default() };
        [("cp-1:50000".to_owned(), answer)].into()
    }

    fn shown(what: What, sort: Sort) -> Table {
        table(what, &rows(what, sort, &machines()), 1, None, false)
    }

    fn first_column(sort: Sort) -> Vec<String> {
        shown(What::Pods, sort).rows.into_iter().map(|row| row[1].clone()).collect()
    }

    #[test]
    fn the_largest_come_first_and_the_unknown_last() {
        assert_eq!(first_column(Sort::Cpu), ["busy", "idle"]);
        assert_eq!(first_column(Sort::Memory), ["idle", "busy"]);
        assert_eq!(first_column(Sort::Pressure), ["idle", "busy"]);
        assert_eq!(first_column(Sort::Name), ["busy", "idle"]);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(
            shown(What::Pods, Sort::Cpu).render(true),
            "NAMESPACE   POD    CPU    MEMORY   WAIT CPU   WAIT MEMORY   WAIT IO\n\
             shop        busy   750m   300Ki    0.0%       0.0%          -\n\
             shop        idle   -      5Mi      0.0%       50.0%         -\n"
        );
        assert_eq!(
            shown(What::Nodes, Sort::Cpu).render(true),
            "NODE         CPU     MEMORY   CPU%    MEMORY%   LOAD   WAIT CPU   WAIT MEMORY   WAIT IO\n\
             cp-1:50000   1000m   2048Mi   25.0%   25.0%     0.50   -          -             -\n"
        );
    }

    #[test]
    fn programs_get_numbers_and_no_zero_for_what_is_not_known() {
        let values = values(&rows(What::Pods, Sort::Cpu, &machines()));
        assert_eq!((&values[0]["pod"], &values[0]["cpus"], &values[0]["memoryBytes"]), (&json!("busy"), &json!(0.75), &json!(307_200)));
        assert!(values[1].get("cpus").is_none() && values[1]["pressure"]["io"]["some"].is_null());
        let nodes = super::values(&rows(What::Nodes, Sort::Cpu, &machines()));
        assert_eq!((&nodes[0]["cpuShare"], &nodes[0]["load"]), (&json!(0.25), &json!(0.5)));
    }
}
