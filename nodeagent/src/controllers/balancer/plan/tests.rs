use proptest::prelude::*;

use super::*;
use crate::controllers::fixtures::{changed, machine};

fn seen(machine: Machine) -> Seen {
    Seen { machine: Ok(machine), identity: true, listening: false, checked: BTreeSet::new() }
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
        let mut seen = seen(machine("worker"));
        for case in cases {
            seen.machine = Ok(machine(["worker", "controlplane", "full", "controlplane-further"][case]));
            apply(&mut seen);
            prop_assert_eq!(plan(&seen), Plan::Settled);
        }
    }
}

fn targets_of(machine: &Machine) -> Vec<String> {
    let name = |target: Target| format!("{}{}", target.address, if target.local { " local" } else { "" });
    targets(&machine.config, &machine.facts).into_iter().map(name).collect()
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
    assert_eq!(targets_of(&machine), ["192.0.2.11:6443", "192.0.2.100:443", "[2001:db8::1]:6443"]);
}
