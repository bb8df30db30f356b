//! Pressure of a machine whose /proc is the test's: the kernel's own triggers are tested where they are armed (crate `metrics`), and here by the
//! machine that runs the tests.

use machine::Root;
use metrics::names::Pod;
use metrics::rates::Rates;
use metrics::{Names, Place, Reading, Snapshot};

use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::init_client::InitClient;
use crate::node::Applied;

fn node(root: &Root, pressure: MachinePressure) -> Node {
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let machine = changed(&machine("worker"), |config| config.machine.pressure = pressure);
    node.set_config(Applied { generation: 1, config: machine.config });
    node
}

fn told(node: &Node, resource: Resource) -> Option<Pressure> {
    node.store.get::<Pressure>(resource.name())
}

/// Waits for the board to say it.
async fn until(node: &Node, resource: Resource, state: PressureState) -> Pressure {
    let mut board = node.store.revision();
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            board.mark_unchanged();
            if let Some(told) = told(node, resource).filter(|told| told.state == state) {
                return told;
            }
            board.changed().await.unwrap();
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{resource:?} is {:?}, and not {state:?}", told(node, resource)))
}

/// A pod that uses so many CPUs, on a machine of two.
fn usage(cpus: f64) -> Usage {
    let mut snapshot = Snapshot::default();
    snapshot.node.cpus = vec![Default::default(); 2];
    snapshot.node.rates.cpus = Some(cpus);
    snapshot.node.rates.idle_cpus = Some(2.0 - cpus);
    let uid = "0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10";
    let place = Place::Root.child("kubepods").and_then(|pods| pods.child(&format!("pod{uid}"))).unwrap();
    let rates = Rates { cpus: Some(cpus), ..Rates::default() };
    snapshot.groups.push(Reading { place, inode: 1, since: SystemTime::UNIX_EPOCH, sample: Default::default(), rates });
    let mut names = Names::default();
    names.pods.insert(uid.to_owned(), Pod { namespace: "batch".to_owned(), name: "hog".to_owned() });
    Usage::of(snapshot, names)
}

#[test]
fn who_uses_most_is_named() {
    let (snapshot, names) = usage(1.9).newest();
    assert_eq!(blame::most(&snapshot, &names, Resource::Cpu).as_deref(), Some("pod batch/hog uses most, 1.90 CPUs"));
    assert_eq!(blame::most(&snapshot, &names, Resource::Io), None);
    assert!(blame::idle_cpus(&usage(1.5).newest().0).is_some_and(|idle| idle == 0.25));
}

#[tokio::test]
async fn a_kernel_that_does_not_tell_is_unknown_and_what_is_not_watched_is_off() {
    let place = tempfile::tempdir().unwrap();
    let mut pressure = MachinePressure::default();
    pressure.io.stall = Stall::None;
    let node = node(&Root::new(place.path()), pressure);
    let watching = tokio::spawn(follow(node.clone(), usage(0.0)));
    let memory = until(&node, Resource::Memory, PressureState::Unknown).await;
    assert!(memory.message.contains("psi=1"), "{memory:?}");
    until(&node, Resource::Io, PressureState::Off).await;
    watching.abort();
}

/// A machine with a busy loop more than it has CPUs, for as long as it lives.
struct Hogs(Vec<std::process::Child>);

impl Hogs {
    fn start() -> Hogs {
        let count = std::thread::available_parallelism().unwrap().get() + 1;
        let one = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Hogs((0..count).map(|_| one()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The real /proc, in the place where the agent looks; none on a host whose kernel tells of no pressure.
fn with_proc() -> Option<tempfile::TempDir> {
    if !std::path::Path::new("/proc/pressure/cpu").exists() {
        eprintln!("left out: the kernel tells of no pressure");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc", place.path().join("proc")).unwrap();
    Some(place)
}

fn of_cpu(calm: Duration) -> MachinePressure {
    // Of 2 s: shorter windows are for those who have CAP_SYS_RESOURCE, as on a machine the agent has.
    let within = machine::config::Duration(Duration::from_secs(2));
    let time = machine::config::Duration(Duration::from_millis(300));
    MachinePressure {
        cpu: PressureThreshold { stall: Stall::Some, time, within },
        calm: machine::config::Duration(calm),
        ..MachinePressure::default()
    }
}

#[tokio::test]
async fn the_agent_hears_of_pressure_from_the_kernel_and_says_who_uses_most() {
    let Some(place) = with_proc() else { return };
    let node = node(&Root::new(place.path()), of_cpu(Duration::from_secs(60)));
    let watching = tokio::spawn(follow(node.clone(), usage(2.0)));
    let hogs = Hogs::start();
    let begun = Instant::now();
    let raised = until(&node, Resource::Cpu, PressureState::Raised).await;
    println!("told {} ms after the hogs began", begun.elapsed().as_millis());
    // Without CAP_SYS_RESOURCE the kernel looks once in 2 s.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(raised.message, "tasks waited for CPUs: some for 300ms within 2s; pod batch/hog uses most, 2.00 CPUs");
    let event = node.events.next(0).unwrap();
    assert_eq!((event.subject.as_str(), event.reason), ("pressure/cpu", "Raised"));
    drop(hogs);
    watching.abort();
}

#[tokio::test]
async fn what_waits_for_its_own_limit_is_no_pressure() {
    let Some(place) = with_proc() else { return };
    let node = node(&Root::new(place.path()), of_cpu(Duration::from_secs(3)));
    // The kernel tells of tasks that wait; half of the CPUs idle.
    let watching = tokio::spawn(follow(node.clone(), usage(1.0)));
    let hogs = Hogs::start();
    until(&node, Resource::Cpu, PressureState::Calm).await;
    drop(hogs);
    watching.abort();
}

#[tokio::test]
async fn a_config_that_watches_no_longer_ends_it() {
    let Some(place) = with_proc() else { return };
    let pressure = of_cpu(Duration::from_secs(60));
    let node = node(&Root::new(place.path()), pressure.clone());
    let watching = tokio::spawn(follow(node.clone(), usage(0.0)));
    until(&node, Resource::Cpu, PressureState::Settling).await;
    let config = changed(&machine("worker"), |config| {
        config.machine.pressure = pressure;
        config.machine.pressure.cpu.stall = Stall::None;
    });
    node.set_config(Applied { generation: 2, config: config.config });
    until(&node, Resource::Cpu, PressureState::Off).await;
    watching.abort();
}
