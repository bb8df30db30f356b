use super::*;
use crate::controllers::fixtures::{issued, machine, running, waits_for};
use crate::controllers::service::Subject;

fn inputs(machine: Machine) -> Inputs {
    Inputs {
        machine: Ok(machine),
        volume_open: true,
        record: Some(Record::started("demo", "cp-1")),
        data_empty: true,
        issued: CERTIFICATES.into_iter().map(|id| (id, issued(id))).collect(),
    }
}

fn want(inputs: &Inputs) -> Want {
    Etcd::want(inputs).unwrap()
}

#[test]
fn starts_once_the_cluster_was_bootstrapped() {
    assert_eq!(waits_for(&want(&Inputs { record: None, ..inputs(machine("controlplane")) })), ["bootstrap of the cluster"]);
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
