use api::v1::{Check, Event, GetHealthResponse, GetVersionResponse, GroupKind, NodeUsage, StreamMetricsResponse};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::facts::{Change, ServiceSeen, Source, Told};

fn picture(facts: &Facts, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, facts)).expect("a picture");
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
}

fn group(kind: GroupKind, service: &str, pod: &str, cpus: f64) -> GroupUsage {
    let pressure = Some(PressureShares { cpu_some: Some(cpus / 2.0), ..Default::default() });
    GroupUsage {
        kind: kind.into(),
        service: service.to_owned(),
        namespace: "kube-system".to_owned(),
        pod: pod.to_owned(),
        cpus_used: Some(cpus),
        memory_used_bytes: Some(64 << 20),
        pressure,
        ..Default::default()
    }
}

fn facts() -> Facts {
    let mut facts = Facts::of("192.0.2.10:50000".to_owned());
    facts.learn(Told::Version(GetVersionResponse {
        version: "0.1.0".to_owned(),
        profile: "controlplane".to_owned(),
        kubernetes: "v1.37.1".to_owned(),
        kernel: "6.12.1".to_owned(),
        stage: "running".to_owned(),
        slot: "a".to_owned(),
        hostname: "cp-1".to_owned(),
        ..Default::default()
    }));
    let check = |name: &str, passed| Check { name: name.to_owned(), passed, message: "is starting".to_owned() };
    facts.learn(Told::Health(GetHealthResponse { checks: vec![check("etcd", true), check("kubelet", false)], healthy: false }));
    for (name, state, restarts) in [("containerd", "ready", 0), ("kubelet", "backoff", 3)] {
        facts.learn(Told::Service(name.to_owned(), Some(ServiceSeen { state: state.to_owned(), restarts })));
    }
    for share in 0..40 {
        let cpu_some = Some(f64::from(share) / 40.0);
        let node = NodeUsage {
            cpus: 2,
            cpus_used: Some(1.5),
            memory_total_bytes: Some(4 << 30),
            memory_used_bytes: Some(1 << 30),
            load: vec![0.5],
            pressure: Some(PressureShares { cpu_some, io_some: Some(0.05), ..Default::default() }),
            ..Default::default()
        };
        let groups = vec![group(GroupKind::Service, "containerd", "", 0.1), group(GroupKind::Pod, "", "coredns-x", 0.9)];
        facts.learn(Told::Usage(Box::new(StreamMetricsResponse { node: Some(node), groups, ..Default::default() })));
    }
    let at = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 });
    let event =
        |message: &str| Event { at, subject: "service/kubelet".to_owned(), reason: "Failed".to_owned(), message: message.to_owned() };
    (0..30).for_each(|number| facts.learn(Told::Event(event(&format!("exit code {number}")))));
    facts
}

#[test]
fn a_machine_at_a_glance() {
    let mut facts = facts();
    let mut pictures = picture(&facts, 100, 24);
    facts.learn(Told::Trouble(Source::Health, Some("connection refused".to_owned())));
    facts.change(Change::Show(Panel::Pods));
    facts.change(Change::Down);
    pictures.push_str(&picture(&facts, 100, 24));
    // Nothing is known yet.
    pictures.push_str(&picture(&Facts::of("192.0.2.10:50000".to_owned()), 100, 24));
    // The machine's own screen: no keys, and only the blocks that its fonts have.
    let mut own = self::facts();
    own.foot = Some("Alt+F1: what kernel and init say".to_owned());
    own.notes = vec![format!("maintenance mode: machine API on 192.0.2.10:50000, certificate fingerprint sha256:{}", "0123abcd".repeat(8))];
    let own = picture(&own, 80, 25);
    assert!(
        own.chars().all(|letter| letter.is_ascii() || "\u{2500}\u{2502}\u{250c}\u{2510}\u{2514}\u{2518}\u{2584}\u{2588}".contains(letter)),
        "{own}"
    );
    pictures.push_str(&own);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/pictures.txt");
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, &pictures).expect("write the golden");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(golden.as_str(), pictures.as_str());
    assert!(golden == pictures, "{} differs; if that is meant, run `make golden`:\n{}", path.display(), diff.unified_diff());
}

#[test]
fn no_terminal_is_too_small() {
    let facts = facts();
    for (width, height) in [(1, 1), (5, 3), (20, 8), (300, 80)] {
        picture(&facts, width, height);
    }
}
