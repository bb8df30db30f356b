use std::collections::BTreeMap;

use controlplane::bootstrap::Record;
use controlplane::etcd::Member;

use super::*;
use crate::controllers::etcd_members::Data;
use crate::controllers::fixtures::machine;
use crate::etcd::members::{Cluster, Health};

/// Members 1, 2, ..., each healthy or not; this machine is the first.
fn seen(healthy: &[bool]) -> Seen {
    let ids = || (1u64..).zip(healthy);
    let url = |id: u64, port: u16| vec![format!("https://192.0.2.{id}:{port}")];
    let member = |(id, _)| Member {
        id: MemberId(id),
        name: format!("cp-{id}"),
        peer_urls: url(id, 2380),
        client_urls: url(id, 2379),
        learner: false,
    };
    let health = |healthy: bool| if healthy { Ok(Health { leader: 1, ..Health::default() }) } else { Err("away".to_owned()) };
    Seen {
        machine: Ok(machine("controlplane")),
        volume_open: true,
        certificate: true,
        founder: true,
        record: Some(Record { member_id: Some(MemberId(1)), ..Record::started("demo", "cp-1").completed() }),
        data: Data::Kept,
        repair: None,
        own: Some(Health { member: 1, leader: 1, ..Health::default() }),
        found: Found::Cluster(Cluster { id: 1, members: ids().map(member).collect(), server: String::new() }),
        health: ids().map(|(id, is)| (MemberId(id), health(*is))).collect(),
        told: BTreeMap::new(),
        not_yet: None,
    }
}

/// What is told, and whether it needs force, for a reboot and for a wiped ETCD.
fn both(seen: &Seen) -> [(String, bool); 2] {
    [false, true].map(|for_good| {
        let parting = decide(seen, for_good);
        assert_eq!(parting.accepted(true).unwrap(), parting.words());
        (parting.words(), parting.accepted(false).is_err())
    })
}

#[test]
fn quorum_is_not_broken_unless_it_is_meant() {
    let words = |text: &str| text.to_owned();
    assert_eq!(
        both(&seen(&[true, true, true])),
        [
            (words("etcd keeps its quorum: 2 of 3 members remain"), false),
            (words("leave etcd: the other members forget member 1; 2 of the 2 that remain are healthy"), false),
        ]
    );
    assert_eq!(
        both(&seen(&[true, true, false])),
        [
            (words("etcd loses its quorum: 1 of 3 members remain, 2 are needed"), true),
            (
                words(
                    "leave etcd: the other members forget member 1; etcd loses its quorum: 1 of the 2 that remain are healthy, 2 are needed"
                ),
                true
            ),
        ]
    );
    let alone = both(&seen(&[true]));
    assert!(alone.iter().all(|(_, needs_force)| !needs_force), "{alone:?}");
    assert!(alone[1].0.contains("the cluster's data is gone"), "{alone:?}");
}

#[test]
fn the_others_are_asked_first_and_the_healthy_before_the_rest() {
    let Parting::Leave { servers, .. } = decide(&seen(&[true, false, true]), true) else { panic!("it leaves") };
    assert_eq!(servers, ["https://192.0.2.3:2379", "https://192.0.2.2:2379", "https://192.0.2.1:2379"]);
}

#[test]
fn who_takes_no_part_breaks_nothing() {
    let none = [(String::new(), false), (String::new(), false)];
    assert_eq!(both(&Seen { record: None, ..seen(&[true, true, true]) }), none);
    let mut removed = seen(&[true, true, true]);
    removed.record = removed.record.map(|record| Record { member_id: Some(MemberId(9)), ..record });
    assert_eq!(both(&removed), none);
    assert_eq!(both(&Seen { found: Found::NobodyToAsk, own: None, ..seen(&[]) }), none);
    // Cut off from the others, or all of them are down.
    let silent = Seen { found: Found::Silence(vec!["192.0.2.2:2379: refused".to_owned()]), ..seen(&[]) };
    let cut_off = both(&Seen { own: None, ..silent.clone() });
    assert_eq!(cut_off.clone().map(|(_, needs_force)| needs_force), [false, true], "{cut_off:?}");
    assert!(cut_off[1].0.contains("192.0.2.2:2379: refused"), "{cut_off:?}");
    // It has a leader, but nobody answers in time.
    assert_eq!(both(&silent).map(|(_, needs_force)| needs_force), [true, true]);
}
