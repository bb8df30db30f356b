//! Real etcd processes, brought about by the agent's controllers on machines of a segment.

use controlplane::bootstrap::Origin;
use machine::disk::Volume;
use machine::protocol::PowerAction;

use crate::etcd::members;
use crate::etcd::played::machine::{Machine, Segment, address, name};
use crate::power::{Descent, Power};
use crate::resources::bootstrap::Bootstrap;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::services;

fn started(segment: &Segment, index: usize) -> Machine {
    let mut machine = segment.machine(index);
    machine.start();
    machine
}

/// Names of the members and whether they vote, as this one says.
fn voters(machine: &Machine) -> Vec<(String, bool)> {
    let cluster = machine.ask(async |access| members::list(access).await.unwrap());
    let mut members: Vec<_> = cluster.members.into_iter().map(|member| (member.name, !member.learner)).collect();
    members.sort();
    members
}

fn all_vote(count: usize) -> Vec<(String, bool)> {
    (1..=count).map(|index| (name(index), true)).collect()
}

/// The first is told to make the cluster; two more find it, as soon as they reach it, and join.
#[test]
fn three_control_planes_become_one_cluster() {
    let segment = Segment::new(3);
    let first = started(&segment, 1);
    let second = started(&segment, 2);
    segment.connect(2, false);
    first.until_waits_for("bootstrap of the cluster, or etcd of another control plane (10.5.0.12:2379: ");
    first.bootstrap();
    first.until_voter();
    let third = started(&segment, 3);
    third.until_voter();
    second.until_waits_for("bootstrap of the cluster, or etcd of another control plane");
    assert_eq!(second.record(), None, "it makes no cluster of its own");
    segment.connect(2, true);
    for machine in [&second, &third] {
        machine.until_voter();
        assert_eq!(machine.record().unwrap().origin, Origin::Join);
    }
    for machine in [&first, &second, &third] {
        assert_eq!(voters(machine), all_vote(3));
        machine.until("it shows three healthy members, itself and a leader among them", |node| {
            let told = node.store.all::<EtcdMember>();
            let count = |is: fn(&EtcdMember) -> bool| told.values().filter(|member| is(member)).count();
            count(|member| member.healthy) == 3 && count(|member| member.local) == 1 && count(|member| member.role == EtcdRole::Leader) == 1
        });
    }
    let again = second.run(async |node| crate::bootstrap::Bootstrap::new(node).bootstrap(false, "a test").await.unwrap());
    assert!(again.already, "there is no second cluster");
}

/// Wherever the power is cut on the way in, the machine comes in, and there is one member for it.
#[test]
fn a_join_goes_on_after_a_power_cut() {
    let segment = Segment::new(2);
    let first = started(&segment, 1);
    first.bootstrap();
    first.until_voter();
    // Known to the cluster, but not on record.
    let url = format!("https://{}:2380", address(2));
    let id = first.ask(async move |access| members::add_learner(access, &url).await.unwrap());
    let mut second = started(&segment, 2);
    second.until("it is on record", |_| second.record().is_some());
    assert_eq!(second.record().unwrap().member_id, Some(id));
    second.cut();
    second.start();
    second.until("etcd keeps data", |node| node.root.etcd_data().join("member/wal").exists());
    second.cut();
    second.start();
    second.until_voter();
    assert_eq!(second.record().unwrap().member_id, Some(id));
    assert_eq!(voters(&first), all_vote(2));
    // With its vote, but without the record of it.
    second.cut();
    let record = second.root().bootstrap_record();
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("completed"), "{text}");
    std::fs::write(&record, text.replace("completed", "started")).unwrap();
    second.start();
    second.until_voter();
    assert_eq!(voters(&second), all_vote(2));
}

/// One that is reset leaves the cluster first; one that the others need is refused.
#[test]
fn a_reset_leaves_the_cluster() {
    let segment = Segment::new(2);
    let first = started(&segment, 1);
    first.bootstrap();
    first.until_voter();
    let mut second = started(&segment, 2);
    second.until_voter();
    second
        .until("it sees both members healthy", |node| node.store.all::<EtcdMember>().values().filter(|member| member.healthy).count() == 2);
    let reboot = Descent { action: PowerAction::Reboot, wipe: Vec::new(), by: "a test".to_owned(), force: false };
    let reset = Descent { wipe: vec![Volume::Etcd], ..reboot.clone() };
    let refused = second.run(async |node| Power::new(node).descend(reboot, false).await.unwrap_err());
    assert_eq!(refused.to_string(), "etcd loses its quorum: 1 of 2 members remain, 2 are needed");
    let plan = second.run(async |node| {
        let plan = Power::new(node.clone()).descend(reset, false).await.unwrap();
        let mut board = node.store.revision();
        while crate::resources::bootstrap::load(&node.root).unwrap().is_some() {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), board.changed()).await;
        }
        plan
    });
    assert!(plan[0].starts_with("leave etcd: the other members forget member"), "{plan:?}");
    second.cut();
    assert_eq!(voters(&first), all_vote(1));
    second.wipe(&[Volume::Etcd]);
    second.start();
    second.until_voter();
    assert_eq!(voters(&first), all_vote(2));
}

/// What the others removed stays away until somebody wipes its data; then it is a new member.
#[test]
fn a_removed_member_waits_and_comes_back_only_anew() {
    let segment = Segment::new(3);
    let first = started(&segment, 1);
    first.bootstrap();
    first.until_voter();
    let (second, mut third) = (started(&segment, 2), started(&segment, 3));
    second.until_voter();
    third.until_voter();
    let id = third.record().unwrap().member_id.unwrap();
    let remove = async move |access: crate::etcd::Access<'_>| members::remove(access, id).await;
    let mut removed = first.ask(remove);
    // etcd changes nothing before each member is connected for some seconds.
    while let Err(error) = &removed {
        assert!(format!("{error:#}").contains("unhealthy cluster"), "{error:#}");
        std::thread::sleep(std::time::Duration::from_millis(500));
        removed = first.ask(remove);
    }
    for _ in 0..2 {
        third.until_waits_for("the others removed this machine's member");
        third.until("etcd is stopped", |node| !services::is_ready(&node.store, "etcd"));
        third.cut();
        third.start();
    }
    third.cut();
    assert_eq!(voters(&first), all_vote(2));
    third.wipe(&[Volume::Etcd]);
    std::fs::remove_file(third.root().bootstrap_record()).unwrap();
    third.start();
    third.until_voter();
    assert_ne!(third.record().unwrap().member_id, Some(id));
    assert_eq!(voters(&first), all_vote(3));
    // Its disk is lost, without a word to the others.
    third.cut();
    third.wipe(&[Volume::Etcd, Volume::State]);
    third.start();
    third.until_voter();
    assert_eq!(voters(&third), all_vote(3));
    let by = third.node().store.get::<Bootstrap>(Bootstrap::NAME).unwrap().by;
    assert_eq!(by, "itself");
}
