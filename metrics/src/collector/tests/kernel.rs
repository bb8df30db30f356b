//! A subtree of the kernel's own cgroup v2 tree, which each test makes and takes away.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Removes its cgroups, deepest first, and kills what it started in them.
struct Subtree {
    root: PathBuf,
    children: Vec<Child>,
}

impl Subtree {
    fn new(name: &str) -> Subtree {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2");
        let mount = mount.expect("this test needs a cgroup v2 mount")[1].to_owned();
        let root = Path::new(&mount).join(format!("corten-test-{name}-{}", std::process::id()));
        fs::create_dir(&root).expect("this test needs root, to make cgroups");
        Subtree { root, children: Vec::new() }
    }

    fn make(&self, path: &str) {
        fs::create_dir_all(self.root.join(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        until("the cgroup can be removed", || fs::remove_dir(self.root.join(path)).is_ok());
    }

    /// Keeps a CPU busy inside a cgroup.
    fn burn(&mut self, path: &str) {
        let procs = self.root.join(path).join("cgroup.procs");
        let script = format!("echo 0 > {} && while :; do :; done", procs.display());
        self.children.push(Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap());
        until("the process has moved", || fs::read_to_string(&procs).is_ok_and(|pids| !pids.is_empty()));
    }

    fn kill(&mut self) {
        for mut child in self.children.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Subtree {
    fn drop(&mut self) {
        self.kill();
        remove_below(&self.root);
    }
}

fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Descriptors of this process into the subtree.
fn open_files(root: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|target| target.starts_with(root)).count()
}

#[test]
fn what_a_process_uses_is_its_cgroups() {
    let mut subtree = Subtree::new("uses");
    subtree.make("system/busy");
    subtree.make("system/idle");
    let mut collector = collector(&subtree.root);
    subtree.burn("system/busy");
    collector.sweep().unwrap();
    let cpus = |snapshot: &Snapshot, name: &str| {
        let reading = snapshot.groups.iter().find(|reading| reading.place.to_string() == format!("/system/{name}")).unwrap();
        reading.rates.cpus
    };
    until("the busy one is seen", || cpus(&collector.sweep().unwrap(), "busy").is_some_and(|cpus| cpus > 0.1));
    let snapshot = collector.sweep().unwrap();
    assert_eq!(cpus(&snapshot, "idle"), Some(0.0));
    // This kernel's tree may have no memory controller; what is not there is not told.
    for reading in &snapshot.groups {
        let there = subtree.root.join(reading.place.to_string().trim_start_matches('/')).join("memory.current").exists();
        assert_eq!(reading.sample.memory.is_some(), there, "{}", reading.place);
        assert!(reading.sample.cpu_pressure.is_some(), "{}: no pressure", reading.place);
    }
}

#[test]
fn a_cgroup_of_the_same_name_starts_anew() {
    let mut subtree = Subtree::new("again");
    subtree.make("system/one");
    let mut collector = collector(&subtree.root);
    subtree.burn("system/one");
    until("it has used CPU", || usage(&collector.sweep().unwrap(), "/system/one").is_some_and(|usage| usage > 20_000));
    subtree.kill();
    subtree.remove("system/one");
    subtree.make("system/one");
    let snapshot = collector.sweep().unwrap();
    assert_eq!(usage(&snapshot, "/system/one"), Some(0));
}

#[test]
fn a_dead_cgroup_is_not_told_of_even_before_the_tree_says_so() {
    let subtree = Subtree::new("dead");
    subtree.make("system/one");
    let mut collector = collector(&subtree.root);
    subtree.remove("system/one");
    // As a sweep that began before the event came.
    collector.entries.iter_mut().for_each(|entry| entry.read(&mut collector.buffer));
    collector.drop_gone();
    assert_eq!(collector.index.keys().map(ToString::to_string).filter(|path| path.contains("one")).count(), 0);
    assert_eq!(collector.sweep().unwrap().groups.len(), 2);
}

#[test]
fn a_thousand_cgroups_that_come_and_go_leave_nothing_behind() {
    let subtree = Subtree::new("churn");
    subtree.make("kubepods/besteffort");
    let mut collector = collector(&subtree.root);
    collector.sweep().unwrap();
    let descriptors = open_files(&subtree.root);
    let made = AtomicUsize::new(0);
    let mut seen = std::collections::HashSet::new();
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for round in 0..1000 {
                // Every path comes back, so that each is at some time another cgroup than before.
                let pod = format!("kubepods/besteffort/pod{:032x}", round % 50);
                let container = format!("{pod}/{:064x}", round % 50);
                subtree.make(&container);
                made.fetch_add(1, Ordering::Relaxed);
                if round % 4 == 0 {
                    std::thread::yield_now();
                }
                subtree.remove(&container);
                subtree.remove(&pod);
            }
        });
        while !maker.is_finished() {
            let snapshot = collector.sweep().unwrap();
            seen.extend(
                snapshot.groups.iter().filter(|reading| matches!(reading.place, Place::Container(..))).map(|reading| reading.inode),
            );
            let places = places(&snapshot);
            assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "a place twice: {places:?}");
        }
        maker.join().unwrap();
    });
    assert_eq!(made.load(Ordering::Relaxed), 1000);
    let snapshot = collector.sweep().unwrap();
    assert_eq!(places(&snapshot), ["/", "/kubepods", "/kubepods/besteffort"]);
    assert_eq!((open_files(&subtree.root), collector.index.len()), (descriptors, 3));
    assert!(!seen.is_empty(), "none of a thousand was ever seen");
}

#[test]
fn the_tree_is_walked_again_when_events_were_lost() {
    let subtree = Subtree::new("lost");
    subtree.make("system");
    let mut collector = collector(&subtree.root);
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Two events a turn: after these the queue is full, and what comes then is known to nobody.
    for _ in 0..=most / 2 {
        fs::create_dir(subtree.root.join("system/turn")).unwrap();
        subtree.remove("system/turn");
    }
    subtree.make("system/late");
    let snapshot = collector.sweep().unwrap();
    assert_eq!(places(&snapshot), ["/", "/system", "/system/late"]);
}
