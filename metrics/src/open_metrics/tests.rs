//! The text is read back by a strict parser of OpenMetrics 1.0, as a scraper would.

mod monitoring;
mod parser;

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::collector::Reading;
use crate::file_systems::{self, Capacity, Written};
use crate::names::{Container, Pod};
use crate::network::PodInterface;
use crate::node;
use crate::place::{Place, Quality};
use crate::sample::{Cpu, Io, Limits, Memory, MemoryEvents, Pressure, Sample, Throttling};
use parser::{Family, parse};

const UID: &str = "0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10";

fn container() -> Place {
    Place::Container(Quality::Burstable, UID.into(), "ab".repeat(32).into())
}

fn names(pod: &str, container: &str) -> Names {
    let pod = Pod { namespace: "shop".to_owned(), name: pod.to_owned() };
    let container = Container { name: container.to_owned(), image: "registry.example/cart:1".to_owned(), is_sandbox: false };
    Names { pods: [(UID.to_owned(), pod)].into(), containers: [("ab".repeat(32), container)].into() }
}

fn snapshot() -> Snapshot {
    let pressure = Some(Pressure { some_usec: 1_500_000, full_usec: Some(250_000) });
    let sample = Sample {
        cpu: Some(Cpu { usage_usec: 2_500_000, user_usec: 2_000_000, system_usec: 500_000, throttling: None }),
        memory: Some(Memory { current: 8192, anon: 4096, file: 4096, inactive_file: 1024, ..Memory::default() }),
        cpu_pressure: pressure,
        ..Sample::default()
    };
    let place =
        |place| Reading { place, inode: 1, since: SystemTime::UNIX_EPOCH + Duration::from_secs(60), sample, rates: Default::default() };
    let service = crate::place::Service { slice: "podruntime".into(), name: "kubelet".into() };
    let groups = vec![place(Place::Service(service)), place(Place::Pod(Quality::Burstable, UID.into())), place(container())];
    let modes = node::Modes { user: 100, idle: 300, ..Default::default() };
    let node = node::Node {
        cpu: Some(node::CpuTimes { all: modes, boot_time: 7, ..Default::default() }),
        cpus: vec![(0, modes)],
        memory: Some(node::Memory { total: 4096, free: 1024, inactive_file: 512, ..Default::default() }),
        load: Some([0.5, 0.25, 0.125]),
        memory_pressure: pressure,
        interfaces: vec![node::Interface { name: node::Label::new(b"eth0").unwrap(), ..Default::default() }],
        ..Default::default()
    };
    let traffic = node::Traffic { bytes: 1500, packets: 3, errors: 0, dropped: 1 };
    let interface = node::Interface { name: node::Label::new(b"eth0").unwrap(), received: traffic, sent: Default::default() };
    Snapshot { node, groups, networks: vec![PodInterface { group: 2, interface }], ..Snapshot::default() }
}

/// All that a kernel with every controller tells.
fn everything() -> Snapshot {
    let mut all = snapshot();
    let pressure = Some(Pressure { some_usec: 1_500_000, full_usec: Some(250_000) });
    for group in &mut all.groups {
        let cpu = group.sample.cpu.map(|cpu| Cpu { throttling: Some(Throttling::default()), ..cpu });
        group.sample = Sample {
            cpu,
            swap_bytes: Some(0),
            memory_events: Some(MemoryEvents::default()),
            io: Some(Io::default()),
            pids: Some(3),
            huge_pages: [Some(0), Some(0)],
            memory_pressure: pressure,
            io_pressure: pressure,
            limits: Limits { cpus: Some(1.0), memory_bytes: Some(16384), swap_bytes: Some(0), pids: Some(100) },
            ..group.sample
        };
    }
    let node = &mut all.node;
    (node.cpu_pressure, node.io_pressure, node.vm) = (pressure, pressure, Some(node::Vm::default()));
    node.disks = vec![node::Disk { name: node::Label::new(b"vda").unwrap(), ..Default::default() }];
    all
}

fn rendered(names: &Names, format: Format) -> String {
    let mut text = Text::new(format);
    render(&snapshot(), names, &mut text);
    text.finish()
}

fn family<'a>(families: &'a [Family], name: &str) -> &'a Family {
    families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no family {name}"))
}

/// `CORTEN_GOLDEN=1` writes them anew.
fn golden(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; CORTEN_GOLDEN=1 writes it anew:\n{text}", path.display());
}

#[test]
fn names_types_and_labels() {
    golden("src/open_metrics/golden/openmetrics.txt", &rendered(&names("cart-1", "cart"), Format::OpenMetrics));
}

#[test]
fn what_containers_have_written_has_their_labels() {
    let written = |container: &str, on| Written { container: container.to_owned(), bytes: 4096, on };
    let capacity = Capacity { bytes: 1 << 30, inodes: 1000, free_inodes: 900 };
    let rendered = |written: &[Written]| {
        let mut text = Text::new(Format::OpenMetrics);
        file_systems::render(written, &snapshot(), &names("cart-1", "cart"), &mut text);
        text.finish()
    };
    let id = "ab".repeat(32);
    // Of one that the snapshot has not there is nothing to say.
    let text = rendered(&[written("gone", None), written(&id, Some(capacity))]);
    let families = parse(&text).unwrap();
    let told: Vec<_> = families.iter().map(|family| (&*family.name, family.samples.len(), family.samples[0].value)).collect();
    let expected = [("usage_bytes", 4096.0), ("limit_bytes", f64::from(1 << 30)), ("inodes_total", 1000.0), ("inodes_free", 900.0)];
    assert_eq!(
        told,
        expected.map(|(name, value)| (format!("container_fs_{name}"), value)).each_ref().map(|(name, value)| (&**name, 1, *value))
    );
    let label = |name| families[0].samples[0].label(name);
    assert_eq!(["container", "device", "name", "namespace", "pod"].map(label), ["cart", "", &*id, "shop", "cart-1"]);
    assert_eq!(parse(&rendered(&[written(&id, None)])).unwrap().len(), 1);
    assert_eq!(rendered(&[written("gone", Some(capacity))]), "# EOF\n");
}

#[test]
fn a_scraper_understands_it() {
    let families = parse(&rendered(&names("cart-1", "cart"), Format::OpenMetrics)).unwrap();
    let usage = family(&families, "container_cpu_usage_seconds");
    assert_eq!((&*usage.kind, usage.samples.len()), ("counter", 3));
    let of_container = usage.samples.iter().find(|sample| sample.label("container") == "cart").unwrap();
    assert_eq!((of_container.value, of_container.label("pod"), of_container.label("namespace")), (2.5, "cart-1", "shop"));
    assert_eq!(family(&families, "container_memory_working_set_bytes").samples[0].value, 7168.0);
    assert_eq!(family(&families, "pod_memory_working_set_bytes").samples[0].label("pod"), "cart-1");
    assert_eq!(family(&families, "node_cpu_seconds").samples.len(), 8);
    let received = &family(&families, "container_network_receive_bytes").samples[0];
    assert_eq!((received.value, received.label("interface"), received.label("pod")), (1500.0, "eth0", "cart-1"));
    // What the kernel did not tell has no family: neither a heading nor a zero.
    assert!(!families.iter().any(|family| family.name.contains("container_fs") || family.name.contains("pressure_io")));
}

#[test]
fn the_older_format_has_the_same_samples() {
    let names = names("cart-1", "cart");
    let lines = |format| {
        let text = rendered(&names, format);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(Format::Prometheus), lines(Format::OpenMetrics));
    assert!(rendered(&names, Format::Prometheus).contains("# TYPE container_cpu_usage_seconds_total counter\n"));
}

proptest! {
    #[test]
    fn names_that_users_choose_cannot_break_out_of_their_quotes(pod: String, container: String) {
        let families = parse(&rendered(&names(&pod, &container), Format::OpenMetrics)).unwrap();
        let samples = &family(&families, "container_cpu_usage_seconds").samples;
        prop_assert_eq!(samples.len(), 3);
        prop_assert_eq!(samples[2].label("pod"), pod);
        prop_assert_eq!(samples[2].label("container"), container);
    }
}

#[test]
fn pods_of_one_name_and_pods_without_one_make_no_series_twice() {
    let mut snapshot = snapshot();
    let other = |uid: &str, since| {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
        Reading {
            place: Place::Pod(Quality::BestEffort, uid.into()),
            since,
            sample: Sample { swap_bytes: Some(since.elapsed().is_ok() as u64), ..Sample::default() },
            ..snapshot.groups[1].clone()
        }
    };
    let more = [other("newer", 90), other("unknown-1", 1), other("unknown-2", 1)];
    snapshot.groups.extend(more);
    let mut names = names("cart-1", "cart");
    names.pods.insert("newer".to_owned(), names.pods[UID].clone());
    let mut text = Text::new(Format::OpenMetrics);
    render(&snapshot, &names, &mut text);
    let families = parse(&text.finish()).unwrap();
    assert_eq!(family(&families, "pod_swap_usage_bytes").samples.len(), 1);
    assert!(!families.iter().any(|family| family.name == "pod_cpu_usage_seconds"), "told of the older one");
}
