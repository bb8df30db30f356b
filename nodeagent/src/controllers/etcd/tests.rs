use controlplane::etcd::MemberId;

use super::*;
use crate::controllers::fixtures::{issued, machine, running, waits_for};
use crate::controllers::service::Subject;

fn inputs(machine: Machine) -> Inputs {
    Inputs {
        machine: Ok(machine),
        volume_open: true,
        record: Some(Record::started("demo", "cp-1")),
        data_empty: true,
        removed: false,
        asked: true,
        repair: None,
        issued: CERTIFICATES.into_iter().map(|id| (id, issued(id))).collect(),
    }
}

fn want(inputs: &Inputs) -> Want {
    Etcd::want(inputs).unwrap()
}

#[test]
fn starts_once_the_cluster_was_bootstrapped() {
    assert_eq!(
        waits_for(&want(&Inputs { record: None, ..inputs(machine("controlplane")) })),
        ["bootstrap of the cluster, or a way into it: see controller etcdmembers"]
    );
    let program = running(want(&inputs(machine("controlplane"))));
    assert_eq!(program.spec.id.as_str(), ID);
    assert!(!program.spec.files_digest.is_empty());
}

#[test]
fn lost_data_is_not_made_up() {
    let lost = Inputs { record: Some(Record::started("demo", "cp-1").completed()), ..inputs(machine("controlplane")) };
    let waits = waits_for(&want(&lost));
    assert!(waits[0].starts_with("somebody to decide: etcd's data is gone"), "{waits:?}");
    running(want(&Inputs { data_empty: false, ..lost }));
}

#[test]
fn an_unopened_volume_says_nothing_about_its_data() {
    let closed =
        Inputs { volume_open: false, record: Some(Record::started("demo", "cp-1").completed()), ..inputs(machine("controlplane")) };
    assert_eq!(waits_for(&want(&closed)), ["volume etcd"]);
}

#[test]
fn workers_have_none() {
    assert!(matches!(want(&inputs(machine("worker"))), Want::Absent(id) if id.as_str() == ID));
}

#[test]
fn missing_certificates_are_named() {
    let none = Inputs { issued: BTreeMap::new(), ..inputs(machine("controlplane")) };
    assert_eq!(waits_for(&want(&none)), ["certificate etcd-server", "certificate etcd-peer"]);
}

#[test]
fn one_that_joins_starts_with_the_members_that_the_cluster_has() {
    let members = ["cp-1", "cp-2"].map(|name| (name.to_owned(), vec![format!("https://{name}:2380")]));
    let record = Record::joining("demo", "cp-1", MemberId(1), members.into());
    let program = running(want(&Inputs { record: Some(record), ..inputs(machine("controlplane")) }));
    let file = program.files.iter().find(|file| file.path.ends_with("etcd.yaml")).unwrap();
    let text = std::str::from_utf8(&file.contents).unwrap();
    assert!(text.contains("cp-1=https://cp-1:2380,cp-2=https://cp-2:2380") && text.contains("initial-cluster-state: existing"), "{text}");
}

#[test]
fn one_that_was_removed_is_stopped() {
    let removed = Inputs { removed: true, data_empty: false, ..inputs(machine("controlplane")) };
    assert!(matches!(want(&removed), Want::Absent(_)));
}

#[test]
fn the_others_are_asked_first() {
    let unasked = Inputs { asked: false, data_empty: false, ..inputs(machine("controlplane")) };
    assert_eq!(waits_for(&want(&unasked)), ["an answer of the other control planes, or none"]);
}

#[test]
fn a_repair_stops_it_and_may_start_it_alone() {
    let repaired = |repair| Inputs { repair: Some(repair), data_empty: false, ..inputs(machine("controlplane")) };
    for repair in [Repair::Restore { token: "demo-1".to_owned() }, Repair::Seal, Repair::Recover, Repair::Rejoin] {
        assert!(matches!(want(&repaired(repair)), Want::Absent(_)));
    }
    let text = |inputs: &Inputs| {
        let program = running(want(inputs));
        let file = program.files.iter().find(|file| file.path.ends_with("etcd.yaml")).unwrap();
        String::from_utf8(file.contents.clone()).unwrap()
    };
    let forced = text(&repaired(Repair::Force));
    assert!(forced.contains("force-new-cluster: true") && forced.contains("listen-peer-urls: https://127.0.0.1:2380"), "{forced}");
    let settling = text(&repaired(Repair::Settle));
    assert!(!settling.contains("force-new-cluster") && settling.contains("listen-client-urls: https://127.0.0.1:2379\n"), "{settling}");
    let restored = Inputs { record: Some(Record::restored("demo", "cp-1", "demo-1")), ..inputs(machine("controlplane")) };
    let text = text(&restored);
    assert!(text.contains("initial-cluster-token: demo-1") && !text.contains("force-new-cluster"), "{text}");
}
