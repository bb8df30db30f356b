use controlplane::bootstrap::Record;
use controlplane::manifests;

use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::resources::manifests::ManifestState;

fn seen(machine: Machine) -> Seen {
    let wanted = manifests::manifests(&machine.config).unwrap().into_iter();
    let wanted: Vec<Wanted> =
        wanted.map(|manifest| Wanted { id: manifest.to_string(), digest: digest(&manifest), told: None, due: true, manifest }).collect();
    let bootstrap = Bootstrap { record: Record::started("demo", "cp-1"), at: 0, by: "admin".to_owned() };
    Seen {
        machine: Ok(machine),
        digest: digest_of_all(&wanted),
        wanted,
        api_server_ready: true,
        recorded: false,
        prune_due: true,
        set: None,
        bootstrap: Some(bootstrap),
    }
}

/// Carries plans out until there is nothing to do, or something is missing; what was done, in words. The API server answers as told.
fn apply(seen: &mut Seen, answer: impl Fn(&Wanted) -> ManifestState) -> (Vec<&'static str>, Plan<Action>) {
    let mut done = Vec::new();
    for _ in 0..20 {
        let actions = match plan(seen) {
            Plan::Act(actions) => actions,
            other => return (done, other),
        };
        for action in actions {
            done.push(match action {
                Action::Record { .. } => {
                    seen.recorded = true;
                    "record"
                }
                Action::Apply(wanted) => {
                    for tried in wanted {
                        let entry = seen.wanted.iter_mut().find(|entry| entry.id == tried.id).unwrap();
                        let (state, manifest) = (answer(&tried), tried.origin().to_owned());
                        entry.due = state.is_final();
                        entry.told = Some(ManifestStatus { manifest, state, message: String::new(), digest: tried.digest, tries: 1 });
                    }
                    "apply"
                }
                Action::Tell(set) => {
                    seen.set = Some(set);
                    "tell"
                }
                Action::Complete(bootstrap) => {
                    seen.bootstrap = Some(bootstrap);
                    "complete"
                }
                Action::Prune { set, .. } => {
                    seen.set = Some(set);
                    "prune"
                }
            });
        }
    }
    panic!("it comes to no end: {done:?}");
}

fn user(seen: &Seen) -> bool {
    seen.wanted.iter().any(|wanted| wanted.manifest.origin != Origin::Corten)
}

#[test]
fn objects_are_written_down_before_they_are_made_and_pruned_after() {
    let mut seen = seen(machine("controlplane"));
    let (done, end) = apply(&mut seen, |_| ManifestState::Applied);
    assert_eq!(done, ["record", "apply", "tell", "complete", "prune"]);
    assert!(matches!(end, Plan::Settled));
    assert_eq!(seen.bootstrap.as_ref().map(|bootstrap| bootstrap.record.progress), Some(Progress::Completed));

    // A change is applied alone.
    seen.wanted[0].digest = "other".to_owned();
    seen.digest = digest_of_all(&seen.wanted);
    seen.recorded = false;
    let Plan::Act(actions) = plan(&seen) else { panic!("{seen:?}") };
    assert!(matches!(actions.as_slice(), [Action::Record { .. }]));
    seen.recorded = true;
    let Plan::Act(actions) = plan(&seen) else { panic!("{seen:?}") };
    assert!(matches!(actions.as_slice(), [Action::Apply(wanted)] if wanted.len() == 1));
    assert_eq!(apply(&mut seen, |_| ManifestState::Applied).0, ["apply", "tell", "prune"]);
}

#[test]
fn the_users_bad_object_holds_up_nothing_and_cortens_own_does() {
    let full = changed(&machine("full"), |_| {});
    for refused in [ManifestState::Refused, ManifestState::Conflict, ManifestState::Waiting] {
        let mut users = seen(full.clone());
        assert!(user(&users), "the example has manifests");
        let of_user = |wanted: &Wanted| wanted.manifest.origin != Origin::Corten;
        let (done, end) = apply(&mut users, |wanted| if of_user(wanted) { refused } else { ManifestState::Applied });
        assert_eq!(done, ["record", "apply", "tell", "complete", "prune"]);
        assert!(matches!(end, Plan::Settled));
        users.wanted.iter_mut().for_each(|wanted| wanted.due = true);
        let Plan::Act(actions) = plan(&users) else { panic!("it is tried again when its time has come") };
        assert!(matches!(actions.as_slice(), [Action::Apply(again)] if again.iter().all(of_user)));

        let mut ours = seen(full.clone());
        let (done, end) = apply(&mut ours, |wanted| if of_user(wanted) { ManifestState::Applied } else { refused });
        assert_eq!(done, ["record", "apply"]);
        assert!(matches!(end, Plan::Waiting(missing) if !missing.is_empty()));
    }
}

#[test]
fn waits_for_the_api_server_and_leaves_it_to_those_who_may() {
    let early = Seen { api_server_ready: false, ..seen(machine("controlplane")) };
    assert!(matches!(plan(&early), Plan::Waiting(missing) if missing == [Missing::new("API server")]));
    let keyless = changed(&machine("controlplane"), |config| config.cluster.certificate_authorities.kubernetes.key = None);
    assert!(matches!(plan(&seen(keyless)), Plan::Waiting(_)));
    assert!(matches!(plan(&seen(machine("worker"))), Plan::Settled));
}
