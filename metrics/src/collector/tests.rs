//! Against trees made of plain files, and against the kernel's own: those need root and a cgroup v2 mount, and fail without.

mod kernel;

use std::fs;
use std::path::Path;

use super::*;
use crate::place::Quality;

pub(super) const UID: &str = "0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10";

fn collector(root: &Path) -> Collector {
    Collector::new(root, Path::new("/proc"), Pace::default()).unwrap()
}

fn places(snapshot: &Snapshot) -> Vec<String> {
    let mut places: Vec<String> = snapshot.groups.iter().map(|reading| reading.place.to_string()).collect();
    places.sort();
    places
}

fn usage(snapshot: &Snapshot, path: &str) -> Option<u64> {
    let reading = snapshot.groups.iter().find(|reading| reading.place.to_string() == path)?;
    Some(reading.sample.cpu?.usage_usec)
}

fn make(root: &Path, path: &str, usage_usec: u64) {
    fs::create_dir_all(root.join(path)).unwrap();
    fs::write(root.join(path).join("cpu.stat"), format!("usage_usec {usage_usec}\nuser_usec 0\nsystem_usec 0\n")).unwrap();
}

#[test]
fn what_was_there_before_and_what_came_since() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "", 1);
    make(root.path(), "podruntime", 2);
    make(root.path(), "podruntime/kubelet", 3);
    let mut collector = collector(root.path());
    assert_eq!(places(&collector.sweep().unwrap()), ["/", "/podruntime", "/podruntime/kubelet"]);

    let pod = format!("kubepods/burstable/pod{UID}");
    let container = format!("{pod}/{}", "ab".repeat(32));
    for (path, usage) in [("kubepods", 4), ("kubepods/burstable", 5), (&*pod, 6), (&*container, 7)] {
        make(root.path(), path, usage);
    }
    fs::create_dir_all(root.path().join(&container).join("nested")).unwrap();
    let snapshot = collector.sweep().unwrap();
    assert_eq!(usage(&snapshot, &format!("/{container}")), Some(7));
    assert_eq!(snapshot.groups.len(), 7, "{:?}", places(&snapshot));
    let pod_reading = snapshot.groups.iter().find(|reading| matches!(reading.place, Place::Pod(Quality::Burstable, _))).unwrap();
    assert_eq!(pod_reading.place.pod_uid().map(|uid| &**uid), Some(UID));

    fs::remove_dir_all(root.path().join("kubepods")).unwrap();
    assert_eq!(places(&collector.sweep().unwrap()), ["/", "/podruntime", "/podruntime/kubelet"]);
}

#[test]
fn one_that_came_to_the_same_path_is_another() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "", 1);
    make(root.path(), "system/agent", 500);
    let mut collector = collector(root.path());
    let inode = |snapshot: &Snapshot| snapshot.groups.iter().find(|reading| matches!(reading.place, Place::Service(_))).unwrap().inode;
    let before = collector.sweep().unwrap();
    // Kept, so that the file system gives its number to nobody else.
    fs::rename(root.path().join("system/agent"), root.path().join("elsewhere")).unwrap();
    fs::create_dir(root.path().join("system/agent")).unwrap();
    make(root.path(), "system/agent", 3);
    let after = collector.sweep().unwrap();
    assert_eq!(usage(&after, "/system/agent"), Some(3));
    assert_ne!(inode(&before), inode(&after));
    let reading = after.groups.iter().find(|reading| matches!(reading.place, Place::Service(_))).unwrap();
    assert_eq!(reading.rates.cpus.filter(|cpus| *cpus > 0.0), None, "a rate between two different cgroups");
}

#[test]
fn two_snapshots_take_turns_and_a_reader_keeps_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "", 1);
    let mut collector = collector(root.path());
    let mut address = || Arc::as_ptr(&collector.sweep().unwrap());
    let turns = [address(), address(), address(), address()];
    assert_eq!((turns[0], turns[1]), (turns[2], turns[3]));
    assert_ne!(turns[0], turns[1]);

    let held = collector.sweep().unwrap();
    let was = held.at;
    make(root.path(), "", 9);
    (0..4).for_each(|_| drop(collector.sweep().unwrap()));
    assert_eq!((held.at, usage(&held, "/")), (was, Some(1)));
    assert_eq!(usage(&collector.sweep().unwrap(), "/"), Some(9));
}

#[test]
fn too_many_are_counted_and_not_read() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "", 1);
    for number in 0..MOST_GROUPS + 5 {
        make(root.path(), &format!("slice{number}"), 1);
    }
    let snapshot = collector(root.path()).sweep().unwrap();
    assert_eq!((snapshot.groups.len(), snapshot.left_out), (MOST_GROUPS, 6));
}

#[test]
fn whoever_takes_no_more_ends_it() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "", 1);
    let pace = Pace { interval: Duration::from_millis(10), budget: 1.0 };
    let mut taken = 0;
    let collector = Collector::new(root.path(), Path::new("/proc"), pace).unwrap();
    collector
        .run(|_| {
            taken += 1;
            taken < 5
        })
        .unwrap();
    assert_eq!(taken, 5);
}
