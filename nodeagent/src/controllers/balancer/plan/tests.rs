use machine::config::Host;
use proptest::prelude::*;

use super::*;
use crate::controllers::fixtures::{changed, machine};

fn seen(machine: Machine) -> Seen {
    let addresses = found(&machine);
    Seen { machine: Ok(machine), identity: true, addresses, members: BTreeSet::new(), listening: false, checked: BTreeSet::new() }
}

/// As names are looked up where example.com has two addresses.
fn found(machine: &Machine) -> BTreeMap<HostPort, Vec<IpAddr>> {
    let look_up = |server: HostPort| {
        let addresses = match &server.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) if name.ends_with("example.com") => vec![[192, 0, 2, 13].into(), [192, 0, 2, 14].into()],
            Host::Name(_) => Vec::new(),
        };
        (server, addresses)
    };
    named(&machine.config).into_iter().map(look_up).collect()
}

fn apply(seen: &mut Seen) {
    if let Plan::Act(actions) = plan(seen) {
        for action in actions {
            match action {
                Action::Listen => seen.listening = true,
                Action::Check(target) => drop(seen.checked.insert(target)),
                Action::Forget(target) => drop(seen.checked.remove(&target)),
            }
        }
    }
}

proptest! {
    #[test]
    fn applied_is_settled(cases in proptest::collection::vec(0..4_usize, 1..5)) {
        let mut seen = seen(machine("controlplane"));
        for case in cases {
            let mut machine = machine(["worker", "controlplane", "full", "controlplane-further"][case]);
            // None of the servers in the examples.
            machine.facts.node_ips = vec![[192, 0, 2, 99].into()];
            seen.addresses = found(&machine);
            seen.machine = Ok(machine);
            apply(&mut seen);
            prop_assert_eq!(plan(&seen), Plan::Settled);
        }
    }
}

fn targets_of(machine: &Machine) -> Vec<String> {
    let name = |target: Target| format!("{}{}", target.address, if target.local { " local" } else { "" });
    targets(machine, &found(machine), &BTreeSet::new()).into_iter().map(name).collect()
}

#[test]
fn a_single_control_plane_goes_to_itself() {
    assert_eq!(targets_of(&machine("controlplane")), ["127.0.0.1:6443 local"], "192.0.2.10 is this machine");
}

#[test]
fn workers_go_to_the_control_planes_and_to_the_endpoint() {
    let machine = changed(&machine("worker"), |config| {
        config.cluster.endpoint = "https://192.0.2.100:443".to_owned();
        config.cluster.control_planes = ["192.0.2.11:50000", "[2001:db8::1]:50000", "cp-3.example.com:50000"].map(str::to_owned).to_vec();
    });
    let expected = ["192.0.2.11:6443", "192.0.2.13:6443", "192.0.2.14:6443", "192.0.2.100:443", "[2001:db8::1]:6443"];
    assert_eq!(targets_of(&machine), expected);
}

#[test]
fn members_are_followed_once_each() {
    let machine = changed(&machine("worker"), |config| {
        config.cluster.endpoint = "https://192.0.2.100:6443".to_owned();
        config.cluster.control_planes = vec!["192.0.2.11:50000".to_owned()];
    });
    let members: BTreeSet<SocketAddr> = ["192.0.2.11:6443", "192.0.2.12:6443"].map(|text| text.parse().unwrap()).into();
    let texts: Vec<String> = targets(&machine, &found(&machine), &members).into_iter().map(|target| target.address.to_string()).collect();
    assert_eq!(texts, ["192.0.2.11:6443", "192.0.2.12:6443", "192.0.2.100:6443"]);
}

#[test]
fn names_that_lead_nowhere_are_waited_for() {
    let machine = changed(&machine("worker"), |config| {
        config.cluster.endpoint = "https://api.nowhere.test:6443".to_owned();
        config.cluster.control_planes.clear();
    });
    let mut seen = seen(machine);
    apply(&mut seen);
    assert_eq!(plan(&seen), Plan::Waiting(vec![Missing::new("an address of an API server")]));
}
