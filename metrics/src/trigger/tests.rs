//! Triggers of the kernel that runs the tests.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use super::*;

/// Whether the test is to go on here: windows that are no multiple of 2 s are for those who have CAP_SYS_RESOURCE. Who lacks it has it in a user
/// namespace, where the test is run again.
fn is_privileged(test: &str) -> bool {
    const SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    if u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << SYS_RESOURCE) != 0 {
        return true;
    }
    let in_a_namespace =
        |words: &[&std::ffi::OsStr]| Command::new("unshare").arg("-Ur").args(words).status().expect("unshare (util-linux)");
    if !in_a_namespace(&["true".as_ref()]).success() {
        eprintln!("left out: this host lets nobody have a user namespace");
        return false;
    }
    let name = format!("trigger::tests::{test}");
    let own = std::env::current_exe().unwrap();
    let run = in_a_namespace(&[own.as_os_str(), "--exact".as_ref(), "--nocapture".as_ref(), name.as_ref()]);
    assert!(run.success(), "{test} in a user namespace");
    false
}

fn watch(path: &Path, threshold: Threshold) -> (Watch, Receiver<Event>) {
    let (sender, events) = channel();
    // Nobody hears what comes after the test.
    let tell = move |event| {
        let _ = sender.send(event);
    };
    (Watch::start(arm(path, threshold).unwrap(), tell).unwrap(), events)
}

/// Woken within this time, or none; how long it took.
fn wait(events: &Receiver<Event>, deadline: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let event = events.recv_timeout(deadline).ok()?;
    assert_eq!(event, Event::Stalled);
    Some(begun.elapsed())
}

/// A cgroup with two processes that never rest on one CPU, as long as it lives. Their account is the cgroup's own: what else the host does
/// does not count.
struct Hogs {
    directory: PathBuf,
    children: Vec<Child>,
}

impl Hogs {
    /// None on a host that has no cgroup v2 with pressure, or lets this process make none.
    fn new() -> Option<Hogs> {
        let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let tree = trees.into_iter().find(|tree| tree.join("cgroup.procs").exists());
        let name = format!("corten-trigger-{:?}", std::thread::current().id()).replace(['(', ')'], "-") + &std::process::id().to_string();
        let made = tree.map(|tree| tree.join(name)).filter(|directory| std::fs::create_dir(directory).is_ok());
        let hogs = made.map(|directory| Hogs { directory, children: Vec::new() });
        let tells = hogs.filter(|hogs| Resource::ALL.into_iter().all(|resource| of_group(&hogs.directory, resource).exists()));
        if tells.is_none() {
            eprintln!("left out: no cgroup can be made here whose pressure the kernel tells");
        }
        tells
    }

    fn start(&mut self) {
        for _ in 0..2 {
            let busy = "while :; do :; done";
            let child = Command::new("taskset").args(["1", "sh", "-c", busy]).stdin(Stdio::null()).spawn().expect("taskset and sh");
            std::fs::write(self.directory.join("cgroup.procs"), child.id().to_string()).unwrap();
            self.children.push(child);
        }
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir(&self.directory);
    }
}

#[test]
fn the_kernel_wakes_who_waits_within_a_second_of_the_first_stall_and_not_before() {
    if !is_privileged("the_kernel_wakes_who_waits_within_a_second_of_the_first_stall_and_not_before") {
        return;
    }
    let Some(mut hogs) = Hogs::new() else { return };
    let threshold = Threshold { stall: Stall::Some, time: Duration::from_millis(150), within: Duration::from_secs(1) };
    let (watch, events) = watch(&of_group(&hogs.directory, Resource::Cpu), threshold);
    assert_eq!(wait(&events, Duration::from_secs(2)), None, "an empty cgroup waits for nothing");
    hogs.start();
    let took = wait(&events, Duration::from_secs(10)).expect("two processes on one CPU wait for each other");
    println!("woken {} ms after the hogs began", took.as_millis());
    // 150 ms of stall, a window that may be a tenth behind, and the time that the two take to start on a busy host.
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Once a window, for as long as it goes on.
    let again = wait(&events, Duration::from_secs(10)).expect("it goes on");
    assert!(again > Duration::from_millis(500), "{again:?}");
    drop(watch);
    let left = loop {
        match events.recv_timeout(Duration::from_secs(10)) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(left, RecvTimeoutError::Disconnected, "its thread has ended");
}

#[test]
fn a_cgroup_that_goes_is_told() {
    let Some(hogs) = Hogs::new() else { return };
    let threshold = Threshold { stall: Stall::Some, time: Duration::from_millis(150), within: Duration::from_secs(2) };
    let (_watch, events) = watch(&of_group(&hogs.directory, Resource::Memory), threshold);
    drop(hogs);
    assert_eq!(events.recv_timeout(Duration::from_secs(10)), Ok(Event::Gone));
}

#[test]
fn what_the_kernel_does_not_have_is_said() {
    let empty = tempfile::tempdir().unwrap();
    let threshold = Threshold { stall: Stall::Full, time: Duration::from_millis(100), within: Duration::from_secs(2) };
    let error = arm(&of_machine(empty.path(), Resource::Io), threshold).unwrap_err();
    assert!(matches!(error, Error::NotTold(_)), "{error}");
    assert!(error.to_string().contains("psi=1"), "{error}");
}

#[test]
fn thresholds_are_written_as_the_kernel_reads_them_and_it_refuses_what_it_does_not_take() {
    let threshold = Threshold { stall: Stall::Full, time: Duration::from_millis(150), within: Duration::from_secs(1) };
    assert_eq!(threshold.to_string(), "full 150000 1000000");
    if !of_machine(Path::new("/proc"), Resource::Memory).exists() {
        eprintln!("left out: the kernel tells of no pressure");
        return;
    }
    let refused = Threshold { within: Duration::from_secs(11), ..threshold };
    let error = arm(&of_machine(Path::new("/proc"), Resource::Memory), refused).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}
