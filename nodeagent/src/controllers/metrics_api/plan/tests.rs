//! What is decided for a cluster of some control planes.

use super::*;
use crate::controllers::fixtures::{changed, machine};

fn seen() -> Seen {
    Seen {
        machine: Ok(machine("controlplane")),
        applied: true,
        servers: BTreeMap::from([("cp-1".to_owned(), MetricsServer { state: ServerState::Answering })]),
        members: BTreeSet::from(["cp-1".to_owned()]),
        claimed: BTreeMap::new(),
        found: Some(Found::default()),
        told: BTreeMap::new(),
        may_return: true,
    }
}

fn with(seen: &mut Seen) -> &mut Found {
    seen.found.as_mut().unwrap()
}

/// Carries plans out as the API server would, until nothing is left to do; what was done.
fn settle(seen: &mut Seen) -> Vec<Action> {
    let mut done = Vec::new();
    for _ in 0..3 {
        let actions = match plan(seen) {
            Plan::Act(actions) => actions,
            Plan::Settled => return done,
            Plan::Waiting(missing) => panic!("it waits for {missing:?}"),
        };
        for action in &actions {
            let found = seen.found.as_mut().unwrap();
            match action.clone() {
                Action::PutService => found.service = true,
                Action::RemoveService => found.service = false,
                Action::PutSlice { node, address, ready } => {
                    drop(found.slices.insert(node, Slice { address: address.to_string(), ready }));
                }
                Action::RemoveSlice { node } => drop(found.slices.remove(&node)),
                Action::Register { group, .. } => {
                    found.registered.retain(|registered| registered.name != group.object_name());
                    found.registered.push(registered(group, group.version(), By::Corten { current: true }));
                }
                Action::Unregister { name, .. } => found.registered.retain(|registered| registered.name != name),
                Action::Tell(told) => seen.told = told,
            }
        }
        done.extend(actions);
    }
    panic!("it does not settle: {done:?}");
}

fn registered(group: Group, version: &str, by: By) -> Registered {
    let name = format!("{version}.{}", group.name());
    Registered { name, group, by, identity: Identity::default(), message: String::new() }
}

fn served_by(seen: &Seen) -> Vec<&str> {
    Group::ALL.iter().map(|group| &*seen.told[group.name()].served_by).collect()
}

fn theirs() -> By {
    By::Other("kube-system/metrics-server".to_owned())
}

#[test]
fn what_answers_is_registered_and_what_does_not_is_not() {
    let mut seen = seen();
    seen.servers.get_mut("cp-1").unwrap().state = ServerState::Starting;
    settle(&mut seen);
    assert_eq!((with(&mut seen).registered.len(), with(&mut seen).slices.len()), (0, 0));
    seen.servers.get_mut("cp-1").unwrap().state = ServerState::Answering;
    settle(&mut seen);
    assert_eq!(with(&mut seen).registered.len(), 2);
    assert_eq!(with(&mut seen).slices["cp-1"], Slice { address: "192.0.2.10".to_owned(), ready: true });
    assert_eq!(served_by(&seen), ["corten", "corten"]);
    // It begins anew: the others are asked meanwhile.
    seen.servers.get_mut("cp-1").unwrap().state = ServerState::Starting;
    settle(&mut seen);
    assert!(!with(&mut seen).slices["cp-1"].ready);
    assert_eq!(with(&mut seen).registered.len(), 2);
}

#[test]
fn what_somebody_else_serves_is_theirs() {
    for (group, version) in [(Group::Resource, "v1beta1"), (Group::Custom, "v1beta1"), (Group::Custom, "v1beta2")] {
        let mut seen = seen();
        settle(&mut seen);
        let found = with(&mut seen);
        found.registered.retain(|registered| registered.name != format!("{version}.{}", group.name()));
        found.registered.push(registered(group, version, theirs()));
        settle(&mut seen);
        let left: Vec<&By> =
            seen.found.iter().flat_map(|found| &found.registered).filter(|one| one.group == group).map(|one| &one.by).collect();
        assert_eq!(left, [&theirs()], "{group:?} {version}");
        assert_eq!(seen.told[group.name()].served_by, "kube-system/metrics-server");
        // They go, and it is served from here again.
        with(&mut seen).registered.retain(|registered| registered.by != theirs());
        settle(&mut seen);
        assert_eq!(served_by(&seen), ["corten", "corten"]);
        assert_eq!(with(&mut seen).registered.len(), 2);
    }
}

#[test]
fn what_a_manifest_of_the_config_serves_is_the_manifests() {
    let mut seen = seen();
    settle(&mut seen);
    seen.claimed.insert(Group::Resource, "metrics-server".to_owned());
    settle(&mut seen);
    assert_eq!(served_by(&seen), ["manifest metrics-server", "corten"]);
    assert_eq!(with(&mut seen).registered.iter().map(|one| one.group).collect::<Vec<_>>(), [Group::Custom]);
}

#[test]
fn a_silent_control_plane_is_marked_and_one_that_left_is_removed() {
    let mut seen = seen();
    settle(&mut seen);
    for name in ["cp-2", "cp-3", "cp-4"] {
        with(&mut seen).slices.insert(name.to_owned(), Slice { address: "192.0.2.11".to_owned(), ready: true });
    }
    seen.members.extend(["cp-2".to_owned(), "cp-3".to_owned()]);
    seen.servers.insert("cp-2".to_owned(), MetricsServer { state: ServerState::Silent });
    seen.servers.insert("cp-3".to_owned(), MetricsServer { state: ServerState::Heard });
    settle(&mut seen);
    let ready: Vec<(String, bool)> = with(&mut seen).slices.iter().map(|(name, slice)| (name.clone(), slice.ready)).collect();
    assert_eq!(ready, [("cp-1".to_owned(), true), ("cp-2".to_owned(), false), ("cp-3".to_owned(), true)]);
    // As long as nobody knows who is a control plane, nobody has left.
    seen.members.clear();
    with(&mut seen).slices.insert("cp-4".to_owned(), Slice { address: "192.0.2.11".to_owned(), ready: true });
    settle(&mut seen);
    assert!(with(&mut seen).slices.contains_key("cp-4"));
}

/// Three control planes, all of which are asked and heard.
fn three() -> Seen {
    let mut seen = seen();
    settle(&mut seen);
    for name in ["cp-2", "cp-3"] {
        with(&mut seen).slices.insert(name.to_owned(), Slice { address: "192.0.2.11".to_owned(), ready: true });
        seen.members.insert(name.to_owned());
        seen.servers.insert(name.to_owned(), MetricsServer { state: ServerState::Heard });
    }
    seen
}

fn ready(seen: &Seen) -> Vec<&str> {
    let slices = seen.found.iter().flat_map(|found| &found.slices);
    slices.filter(|(_, slice)| slice.ready).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_last_one_that_is_asked_is_not_marked() {
    let mut seen = three();
    let state = |seen: &mut Seen, name: &str, state| seen.servers.get_mut(name).unwrap().state = state;
    state(&mut seen, "cp-1", ServerState::Starting);
    state(&mut seen, "cp-2", ServerState::Silent);
    settle(&mut seen);
    assert_eq!(ready(&seen), ["cp-3"]);
    // Silent as well: whoever asks may still have luck there, and has none anywhere else.
    state(&mut seen, "cp-3", ServerState::Silent);
    settle(&mut seen);
    assert_eq!(ready(&seen), ["cp-3"]);
    state(&mut seen, "cp-1", ServerState::Answering);
    settle(&mut seen);
    assert_eq!(ready(&seen), ["cp-1"]);
}

#[test]
fn one_that_others_mark_too_often_stays_away_while_somebody_else_is_asked() {
    let mut seen = three();
    let mark = |seen: &mut Seen| with(seen).slices.get_mut("cp-1").unwrap().ready = false;
    mark(&mut seen);
    settle(&mut seen);
    assert_eq!(ready(&seen), ["cp-1", "cp-2", "cp-3"]);
    mark(&mut seen);
    seen.may_return = false;
    assert_eq!(settle(&mut seen), []);
    // Those that are asked are not heard.
    for name in ["cp-2", "cp-3"] {
        seen.servers.get_mut(name).unwrap().state = ServerState::Silent;
    }
    settle(&mut seen);
    assert_eq!(ready(&seen), ["cp-1"]);
    // An address that is another is told at once.
    let elsewhere = Slice { address: "192.0.2.99".to_owned(), ready: false };
    with(&mut seen).slices.insert("cp-1".to_owned(), elsewhere);
    seen.servers.get_mut("cp-2").unwrap().state = ServerState::Heard;
    with(&mut seen).slices.get_mut("cp-2").unwrap().ready = true;
    settle(&mut seen);
    assert_eq!(with(&mut seen).slices["cp-1"], Slice { address: "192.0.2.10".to_owned(), ready: true });
}

#[test]
fn what_is_switched_off_goes_with_the_last_control_plane() {
    let mut seen = seen();
    settle(&mut seen);
    with(&mut seen).slices.insert("cp-2".to_owned(), Slice { address: "192.0.2.11".to_owned(), ready: true });
    seen.machine = Ok(changed(&machine("controlplane"), |config| config.cluster.metrics.api = false));
    settle(&mut seen);
    assert_eq!((with(&mut seen).registered.len(), with(&mut seen).slices.len()), (2, 1));
    with(&mut seen).slices.clear();
    with(&mut seen).registered.push(registered(Group::Resource, "v1", theirs()));
    settle(&mut seen);
    assert_eq!(with(&mut seen).registered, [registered(Group::Resource, "v1", theirs())]);
    assert!(!with(&mut seen).service && seen.told.is_empty());
}

#[test]
fn an_old_authority_is_written_over_and_a_worker_has_nothing_to_do() {
    let mut seen = seen();
    settle(&mut seen);
    with(&mut seen).registered[0].by = By::Corten { current: false };
    assert!(matches!(&*settle(&mut seen), [Action::Register { group: Group::Resource, over: Some(_) }]));
    seen.told.clear();
    assert_eq!(plan(&Seen { machine: Ok(machine("worker")), ..seen.clone() }), Plan::Settled);
    assert_eq!(plan(&Seen { applied: false, ..seen }), Plan::Waiting(vec![Missing::new("manifests")]));
}
