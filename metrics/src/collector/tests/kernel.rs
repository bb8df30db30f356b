//! A subtree of the kernel's own cgroup v2 tree, which each test makes and takes away.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::names::Names;
use crate::open_metrics::{self, Format, Text};

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
        self.run(path, "while :; do :; done");
    }

    /// Runs a script inside a cgroup, and returns its process.
    fn run(&mut self, path: &str, script: &str) -> u32 {
        let procs = self.root.join(path).join("cgroup.procs");
        let script = format!("echo 0 > {} && {script}", procs.display());
        let child = Command::new("/bin/bash").args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = child.id();
        self.children.push(child);
        until("the process has moved", || fs::read_to_string(&procs).is_ok_and(|pids| !pids.is_empty()));
        process
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
    churn("churn", 1000);
}

/// Some minutes; what leaks a little leaks much here.
#[test]
#[ignore = "long: cargo test -p metrics --release -- --ignored a_hundred_thousand"]
fn a_hundred_thousand_cgroups_that_come_and_go_leave_nothing_behind() {
    let before = resident_bytes();
    churn("long-churn", 100_000);
    let grown = resident_bytes().saturating_sub(before);
    eprintln!("resident memory grew by {} KiB", grown >> 10);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// While all is swept and written out as for a scraper, and another cgroup is busy: what that one uses is never told of those that come and go.
fn churn(name: &str, rounds: usize) {
    let mut subtree = Subtree::new(name);
    subtree.make("kubepods/besteffort");
    subtree.make("system/busy");
    subtree.burn("system/busy");
    let mut collector = collector(&subtree.root).knowing(|_| Some(true));
    collector.sweep().unwrap();
    let descriptors = open_files(&subtree.root);
    let made = AtomicUsize::new(0);
    let mut seen = std::collections::HashSet::new();
    let mut busy = 0;
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for round in 0..rounds {
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
            let of_pods = |reading: &&Reading| matches!(reading.place, Place::Container(..) | Place::Pod(..));
            for reading in snapshot.groups.iter().filter(of_pods) {
                // No process was ever in it.
                assert_eq!(reading.sample.cpu.map_or(0, |cpu| cpu.usage_usec), 0, "{}", reading.place);
                if seen.len() < 10_000 {
                    seen.insert(reading.inode);
                }
            }
            let used = usage(&snapshot, "/system/busy").expect("the busy one is there all the time");
            assert!(used >= busy, "{used} after {busy}");
            busy = used;
            let places = places(&snapshot);
            assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "a place twice: {places:?}");
            let mut text = Text::new(Format::OpenMetrics);
            open_metrics::render(&snapshot, &Names::default(), &mut text);
            let text = text.finish();
            let of_usage = text.lines().filter(|line| line.starts_with("container_cpu_usage_seconds_total{"));
            assert_eq!(of_usage.count(), snapshot.groups.iter().filter(|reading| reading.sample.cpu.is_some()).count());
        }
        maker.join().unwrap();
    });
    assert_eq!(made.load(Ordering::Relaxed), rounds);
    let snapshot = collector.sweep().unwrap();
    assert_eq!(places(&snapshot), ["/", "/kubepods", "/kubepods/besteffort", "/system", "/system/busy"]);
    assert_eq!((open_files(&subtree.root), collector.index.len()), (descriptors, 5));
    assert!(!seen.is_empty() && busy > 0, "none of {rounds} was ever seen");
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

/// Files of interfaces that are open in this process and another's; that may have ended.
fn open_networks() -> Vec<String> {
    let own = format!("/proc/{}/", std::process::id());
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = links.map(|target| target.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("/proc/") && name.contains("/net/dev") && !name.starts_with(&own)).collect()
}

#[test]
fn a_pods_network_is_found_by_its_sandbox_and_the_machines_is_nobodys() {
    let mut subtree = Subtree::new("network");
    let container = |pod: u32, id: u32| format!("kubepods/besteffort/pod{pod:032x}/{id:064x}");
    let (sandbox, beside, on_host) = (container(1, 1), container(1, 2), container(2, 3));
    [&sandbox, &beside, &on_host].into_iter().for_each(|path| subtree.make(path));
    let sandboxes = [format!("{:064x}", 1), format!("{:064x}", 3)];
    let others = [format!("{:064x}", 2)];
    let known =
        move |id: &str| sandboxes.iter().any(|one| one == id).then_some(true).or(others.iter().any(|one| one == id).then_some(false));
    let mut collector = collector(&subtree.root).knowing(known);
    assert_eq!(collector.sweep().unwrap().networks, [], "sandboxes without a process");

    // It is in the cgroup before it is in a network of its own, as with the runtime. `read` waits for the end of its input, which this process holds.
    let send = "ip link add eth0 type veth peer name peer && ip address add 192.0.2.1/24 dev eth0 && ip link set peer up && \
                ip link set eth0 up && echo hi > /dev/udp/192.0.2.2/9; read";
    let process = subtree.run(&sandbox, &format!("exec unshare --net bash -c '{send}'"));
    subtree.run(&beside, "read");
    subtree.run(&on_host, "read");
    let mut told = None;
    until("what the pod sent is told", || {
        let snapshot = collector.sweep().unwrap();
        let of_pods: Vec<(String, Interface)> =
            snapshot.networks.iter().map(|found| (snapshot.groups[found.group].place.to_string(), found.interface)).collect();
        let sent = of_pods
            .iter()
            .any(|(place, interface)| *place == format!("/{sandbox}") && interface.name.as_str() == "eth0" && interface.sent.packets > 0);
        told = Some(of_pods);
        sent
    });
    let told = told.unwrap();
    assert!(told.iter().all(|(place, _)| *place == format!("/{sandbox}")), "{told:?}");
    assert_eq!(told.iter().map(|(_, interface)| interface.name.as_str()).filter(|name| *name == "lo").count(), 0);
    let eth0 = told.iter().find(|(_, interface)| interface.name.as_str() == "eth0").unwrap().1;
    let there = fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap();
    let now = crate::node::devices::interfaces(there.as_bytes()).find(|interface| interface.name.as_str() == "eth0").unwrap();
    assert!(now.sent.bytes >= eth0.sent.bytes && eth0.sent.bytes > 0, "{now:?} {eth0:?}");
    let open = open_networks();
    assert_eq!(open.len(), 1, "{open:?}");

    subtree.kill();
    subtree.remove(&sandbox);
    assert_eq!((collector.sweep().unwrap().networks.len(), open_networks()), (0, Vec::new()));
}
