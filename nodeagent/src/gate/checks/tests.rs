//! Machines of every standing, each with nothing up and with everything up but one thing.

use std::fmt::Write as _;
use std::time::Duration;

use machine::service::{ServiceId, ServiceState};

use super::*;

fn service(id: &str, state: ServiceState, slice: Option<Slice>) -> Service {
    let id = ServiceId::new(id).unwrap();
    let status = ServiceStatus { id, state, pid: None, restarts: 0, last_exit: None, since_boot: Duration::ZERO };
    Service { status, slice, restarted: false }
}

fn health(failing: &[&str]) -> Vec<(&'static str, Check)> {
    let names = ["volumes", "controllers", "services", "etcd", "apiserver", "cluster", "kubelet", "node"];
    let check = |name: &'static str| {
        let passed = !failing.contains(&name);
        (name, Check { passed, message: if passed { String::new() } else { format!("{name} says why") } })
    };
    names.map(check).to_vec()
}

fn user(title: &str, result: Result<(), &str>) -> UserCheck {
    UserCheck { title: title.to_owned(), result: result.map_err(str::to_owned), of_the_cluster: false }
}

fn pod(result: Result<(), &str>) -> UserCheck {
    UserCheck { of_the_cluster: true, ..user("pod a/b", result) }
}

fn up(standing: Standing) -> Seen {
    Seen {
        state_problem: None,
        api: Ok(()),
        standing,
        health: health(&[]),
        pods: Some(Ok(())),
        overlay: Ok(()),
        services: vec![
            service("nodeagent", ServiceState::Ready, None),
            service("etcd", ServiceState::Ready, Some(Slice::Controlplane)),
            service("kubelet", ServiceState::Ready, Some(Slice::Podruntime)),
        ],
        users: vec![user("web", Ok(())), pod(Ok(()))],
    }
}

fn with_services(standing: Standing, states: &[(&str, ServiceState, Slice)]) -> Seen {
    let services = states.iter().map(|(id, state, slice)| service(id, state.clone(), Some(*slice))).collect();
    Seen { services, health: health(&["services"]), ..up(standing) }
}

fn print(seen: &Seen) -> String {
    let mut text = String::new();
    for Observation { check, verdict, service } in judge(seen) {
        let verdict = match verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Excused(message) => format!("excused: {message}"),
            Verdict::Failing(message) => format!("FAILING: {message} (log of {})", service.unwrap_or_else(|| "nobody".to_owned())),
        };
        writeln!(text, "  {check:<12} {verdict}").unwrap();
    }
    text
}

#[test]
fn what_counts() {
    let member = |reachable| Standing::Member(Before { reachable, pods_started: true });
    let no_sandbox = || Some(Err("starting a pod's sandbox: no network".to_owned()));
    let silent_peer = || Err("worker-2: 10.244.2.0: no answer within 5 s".to_owned());
    let everything = ["volumes", "controllers", "services", "etcd", "apiserver", "cluster", "kubelet", "node"];
    let starting = ServiceState::Starting;
    let down = |standing| Seen { health: health(&everything), pods: None, services: Vec::new(), ..up(standing) };
    let cases = [
        ("maintenance, nothing else is up", down(Standing::Maintenance)),
        ("maintenance, STATE is broken", Seen { state_problem: Some("STATE is broken".to_owned()), ..up(Standing::Maintenance) }),
        ("the image cannot use the config", up(Standing::Recovery)),
        ("configured, of no cluster, nothing else is up", down(Standing::Alone)),
        ("of no cluster, the API takes no connection", Seen { api: Err("connection refused".to_owned()), ..up(Standing::Alone) }),
        ("of no cluster, the user's check fails", Seen { users: vec![user("web", Err("status 500"))], ..up(Standing::Alone) }),
        ("member, all is up", up(member(true))),
        ("member, nothing is up", down(member(true))),
        ("member, nothing is up, the cluster was out of reach before", down(member(false))),
        (
            "member, the cluster was out of reach before and is",
            Seen {
                health: health(&["controllers", "etcd", "apiserver", "cluster", "node"]),
                pods: None,
                users: vec![user("web", Ok(())), pod(Err("no answer within 5s"))],
                ..up(member(false))
            },
        ),
        (
            "member, the cluster is out of reach now only",
            Seen { health: health(&["cluster", "node"]), pods: None, users: vec![pod(Err("no answer within 5s"))], ..up(member(true)) },
        ),
        ("member: no pod can start", Seen { pods: no_sandbox(), ..up(member(true)) }),
        (
            "member: no pod could start before either",
            Seen { pods: no_sandbox(), ..up(Standing::Member(Before { reachable: true, pods_started: false })) },
        ),
        ("member: a peer of the overlay does not answer", Seen { overlay: silent_peer(), ..up(member(true)) }),
        ("member, out of reach before: not in the overlay yet", Seen { overlay: silent_peer(), ..up(member(false)) }),
        (
            "member, out of reach before: the control plane does not come up",
            with_services(
                member(false),
                &[("etcd", starting.clone(), Slice::Controlplane), ("kube-proxy", starting.clone(), Slice::Podruntime)],
            ),
        ),
        (
            "member, out of reach before: the kubelet does not come up",
            with_services(
                member(false),
                &[("etcd", starting.clone(), Slice::Controlplane), ("kubelet", starting.clone(), Slice::Podruntime)],
            ),
        ),
        (
            "member: two services do not come up",
            with_services(member(true), &[("etcd", starting.clone(), Slice::Controlplane), ("kubelet", starting, Slice::Podruntime)]),
        ),
    ];
    let mut ends = up(member(true));
    ends.services[2].restarted = true;
    ends.services[2].status.last_exit = Some(machine::service::Exit::Signal(9));
    let cases = cases.into_iter().chain([("member: the kubelet ends again and again", ends)]);
    let text: String = cases.map(|(what, seen)| format!("{what}\n{}\n", print(&seen))).collect();
    crate::golden::check("src/gate/golden/checks.txt", &text);
}

/// The names that this file goes by are those of health.rs.
#[test]
fn every_check_of_the_cluster_is_one() {
    let known: Vec<&str> = health::names().collect();
    assert!(OF_THE_CLUSTER.iter().all(|name| known.contains(name)) && known.contains(&"services"), "{known:?}");
}
