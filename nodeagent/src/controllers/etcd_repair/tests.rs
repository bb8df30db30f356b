//! Real etcd processes whose quorum is lost, and whose data is put back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use machine::disk::Volume;

use crate::etcd::played::keys;
use crate::etcd::played::machine::{Machine, Segment, name};
use crate::etcd::snapshot::Taking;
use crate::etcd::{Access, members};
use crate::member::restore::Upload;
use crate::member::{recovery, removal, status, upkeep};
use crate::refusal::Refusal;
use crate::resources::etcd::EtcdMember;
use crate::resources::etcd_repair::EtcdRepair;
use crate::resources::services;

/// So many machines of one cluster, each with a vote.
fn cluster(segment: &Segment, count: usize) -> Vec<Machine> {
    let mut machines: Vec<Machine> = (1..=count).map(|index| segment.machine(index)).collect();
    machines[0].start();
    machines[0].bootstrap();
    machines[0].until_voter();
    for machine in &mut machines[1..] {
        machine.start();
        machine.until_voter();
    }
    machines
}

/// etcd starts once more when a repair has ended.
fn patiently<T: Send + 'static>(machine: &Machine, ask: impl AsyncFn(Access<'_>) -> anyhow::Result<T> + Send + 'static) -> T {
    machine.ask(async move |access| {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match ask(access).await {
                Ok(answer) => return answer,
                Err(error) => assert!(Instant::now() < until, "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

fn put(machine: &Machine, key: &str, value: &str) {
    let (key, value) = (key.to_owned(), value.to_owned());
    patiently(machine, async move |access| keys::put(access, &key, &value).await);
}

fn all(machine: &Machine) -> BTreeMap<String, String> {
    patiently(machine, async |access| keys::all(access).await)
}

fn voters(machine: &Machine) -> Vec<String> {
    let cluster = patiently(machine, async |access| members::list(access).await);
    let mut names: Vec<String> = cluster.members.into_iter().filter(|member| !member.learner).map(|member| member.name).collect();
    names.sort();
    names
}

fn until_repaired(machine: &Machine) {
    machine.until("what was asked for is done", |node| {
        EtcdRepair::current(&node.store).is_none() && crate::resources::etcd_repair::load(&node.root).unwrap().is_none()
    });
    machine.until_voter();
}

fn rejoin(machine: &Machine) -> Result<Vec<String>, Refusal> {
    let name = name(machine.index);
    machine.run(async move |node| recovery::rejoin(&node, &name, false, false, "a test").await)
}

fn snapshot(machine: &Machine) -> Vec<u8> {
    machine.ask(async |access| {
        let (mut taking, mut bytes) = (Taking::begin(access).await.unwrap(), Vec::new());
        while let Some(piece) = taking.next().await.unwrap() {
            bytes.extend_from_slice(&piece.bytes);
        }
        bytes
    })
}

/// Three lose two of them. The one that is left goes on alone with all that it had; those that come back are kept apart until they join anew.
#[test]
fn a_lost_quorum_is_recovered() {
    let segment = Segment::new(3);
    let mut machines = cluster(&segment, 3);
    for index in 0..50 {
        put(&machines[2], &format!("/registry/{index}"), "written while there were three");
    }
    let refused = machines[2].run(async |node| recovery::recover(&node, "cp-3", false, "a test").await.unwrap_err());
    assert!(refused.to_string().starts_with("etcd has its quorum"), "{refused}");
    machines[0].cut();
    machines[1].cut();
    machines[2].until("it knows that the others are away", |node| {
        node.store.all::<EtcdMember>().values().filter(|member| member.healthy).count() == 0
    });
    let report = machines[2].run(async |node| status::report(&node).await.unwrap());
    assert!(report.running.is_some() && !report.quorum);
    let log = report.disk.unwrap().log;
    assert!(log.last.index > 50, "{log:?}");
    let refused = machines[2].run(async |node| recovery::recover(&node, "cp-1", false, "a test").await.unwrap_err());
    assert!(refused.to_string().contains("expected the machine's hostname"), "{refused}");
    machines[2].run(async |node| recovery::recover(&node, "cp-3", false, "a test").await.unwrap());
    // The power is cut on the way.
    machines[2].until("etcd is told to go on alone", |node| EtcdRepair::current(&node.store).is_none_or(|repair| !repair.stops_etcd()));
    machines[2].cut();
    machines[2].start();
    until_repaired(&machines[2]);
    assert_eq!(voters(&machines[2]), ["cp-3"]);
    let kept = all(&machines[2]);
    assert_eq!(kept.len(), 50);
    put(&machines[2], "/registry/50", "written while there was one");

    // With what they had they would be a majority of the old cluster.
    for index in [0, 1] {
        machines[index].start();
    }
    for index in [0, 1] {
        machines[index].until_waits_for("the others removed this machine's member");
        assert!(!services::is_ready(&machines[index].node().store, "etcd"), "the old cluster must not come back");
        rejoin(&machines[index]).unwrap();
        until_repaired(&machines[index]);
        assert_eq!(all(&machines[index]).len(), 51);
    }
    assert_eq!(voters(&machines[2]), ["cp-1", "cp-2", "cp-3"]);
    let refused = rejoin(&machines[0]).unwrap_err();
    assert!(refused.to_string().contains("takes part in a cluster of 3 members"), "{refused}");
}

/// A snapshot takes the place of what there is, on one machine after the other.
#[test]
fn a_snapshot_is_restored() {
    let segment = Segment::new(2);
    let mut machines = cluster(&segment, 2);
    for index in 0..30 {
        put(&machines[0], &format!("/registry/{index}"), "old");
    }
    let saved = snapshot(&machines[1]);
    let before = all(&machines[0]);
    put(&machines[0], "/registry/3", "new");
    put(&machines[0], "/registry/99", "new");

    let upload = |machine: &Machine, bytes: Vec<u8>, dry_run: bool| {
        machine.run(async move |node| {
            let mut upload = Upload::begin(&node, "cp-1", dry_run)?;
            bytes.chunks(100_000).try_for_each(|piece| upload.take(piece))?;
            upload.finish("a test")
        })
    };
    let short = upload(&machines[0], saved[..saved.len() - 1].to_vec(), false).unwrap_err();
    assert!(short.to_string().contains("do not end with their SHA-256"), "{short}");
    let planned = upload(&machines[0], saved.clone(), true).unwrap();
    assert!(planned.revision >= 31, "{planned:?}");
    assert!(planned.plan[0].contains(&format!("revision {}", planned.revision)), "{planned:?}");
    assert_eq!(std::fs::read_dir(machines[0].root().etcd_restore()).unwrap().count(), 0, "nothing is left of a dry run");
    assert_eq!(all(&machines[0]).len(), 31);

    upload(&machines[0], saved, false).unwrap();
    machines[0].cut();
    machines[0].start();
    until_repaired(&machines[0]);
    assert_eq!(all(&machines[0]), before);
    assert_eq!(voters(&machines[0]), ["cp-1"]);
    let revision = machines[0].run(async |node| status::report(&node).await.unwrap()).running.unwrap().revision;
    assert!(revision > 1_000_000_000, "{revision}");
    // The other one has lost its quorum by that, and waits.
    rejoin(&machines[1]).unwrap();
    until_repaired(&machines[1]);
    assert_eq!(all(&machines[1]), before);
    assert_eq!(voters(&machines[1]), ["cp-1", "cp-2"]);
    machines[0].cut();
    machines[0].start();
    machines[0].until_voter();
    assert_eq!(all(&machines[0]), before, "it is so after a restart, too");
}

/// A member that is dead is removed, none that is needed; and members are defragmented while the others do without them.
#[test]
fn members_are_removed_and_kept_up() {
    let segment = Segment::new(3);
    let mut machines = cluster(&segment, 3);
    machines[0].until("all are healthy", |node| node.store.all::<EtcdMember>().values().filter(|member| member.healthy).count() == 3);
    let done = machines[1].run(async |node| upkeep::defragment(&node, false, false).await.unwrap());
    assert!(done.plan[1].contains("2 of 3 members remain") && done.after_bytes > 0, "{done:?}");
    assert!(machines[1].run(async |node| upkeep::alarms(&node).await.unwrap()).is_empty());
    let unknown = machines[1].run(async |node| upkeep::disarm(&node, "FIRE").await.unwrap_err());
    assert!(unknown.to_string().contains("expected one of NOSPACE, CORRUPT"), "{unknown}");
    assert!(machines[1].run(async |node| upkeep::disarm(&node, "").await.unwrap()).is_empty());

    let remove = |machine: &Machine, named: &'static str| machine.run(async move |node| removal::remove(&node, named, false, false).await);
    assert!(remove(&machines[0], "cp-9").unwrap_err().to_string().contains("member \"cp-9\" of etcd is not there"));
    assert!(remove(&machines[0], "cp-1").unwrap_err().to_string().contains("own member"));
    machines[2].cut();
    machines[0].until("one is away", |node| node.store.all::<EtcdMember>().values().filter(|member| member.healthy).count() == 2);
    let refused = machines[0].run(async |node| upkeep::defragment(&node, false, false).await.unwrap_err());
    assert!(refused.to_string().contains("etcd loses its quorum"), "{refused}");
    // Two are left, and the dead one counts: none of the two may go.
    let refused = remove(&machines[0], "cp-2").unwrap_err();
    assert!(refused.to_string().contains("etcd loses its quorum"), "{refused}");
    remove(&machines[0], "cp-3").unwrap();
    assert_eq!(voters(&machines[0]), ["cp-1", "cp-2"]);
    machines[2].wipe(&[Volume::Etcd, Volume::State]);
    machines[2].start();
    machines[2].until_voter();
    assert_eq!(voters(&machines[0]), ["cp-1", "cp-2", "cp-3"]);
}
