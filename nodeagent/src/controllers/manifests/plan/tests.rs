use controlplane::bootstrap::Record;
use controlplane::manifests;

use super::*;
use crate::controllers::fixtures::{changed, machine};

fn seen(machine: Machine) -> Seen {
    let wanted = manifests::manifests(&machine.config).unwrap();
    let bootstrap = Bootstrap { record: Record::started("demo", "cp-1"), at: 0, by: "admin".to_owned() };
    Seen { machine: Ok(machine), wanted, api_server_ready: true, applied: None, bootstrap: Some(bootstrap) }
}

/// What was done, in words.
fn apply(seen: &mut Seen) -> Vec<&'static str> {
    let Plan::Act(actions) = plan(seen) else { return Vec::new() };
    let carry_out = |action| match action {
        Action::Apply { status, .. } => {
            seen.applied = Some(status);
            "apply"
        }
        Action::Complete(bootstrap) => {
            seen.bootstrap = Some(bootstrap);
            "complete"
        }
    };
    actions.into_iter().map(carry_out).collect()
}

#[test]
fn bootstrap_is_complete_when_they_are_applied() {
    let mut seen = seen(machine("controlplane"));
    assert_eq!(apply(&mut seen), ["apply", "complete"]);
    assert!(matches!(plan(&seen), Plan::Settled));
    assert_eq!(seen.bootstrap.map(|bootstrap| bootstrap.record.progress), Some(Progress::Completed));
}

#[test]
fn applied_again_when_they_change() {
    let mut seen = seen(machine("controlplane"));
    apply(&mut seen);
    seen.wanted.pop();
    assert_eq!(apply(&mut seen), ["apply"]);
}

#[test]
fn waits_for_the_api_server_and_leaves_it_to_those_who_may() {
    let early = Seen { api_server_ready: false, ..seen(machine("controlplane")) };
    assert!(matches!(plan(&early), Plan::Waiting(missing) if missing == [Missing::new("API server")]));
    let keyless = changed(&machine("controlplane"), |config| config.cluster.certificate_authorities.kubernetes.key = None);
    assert!(matches!(plan(&seen(keyless)), Plan::Waiting(_)));
    assert!(matches!(plan(&seen(machine("worker"))), Plan::Settled));
}
