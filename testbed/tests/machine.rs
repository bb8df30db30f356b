//! Real QEMU processes, without an image: the firmware alone speaks on the console.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{Accelerator, Boot, Disk, DiskFormat, Firmware, Lifetime, Machine, MachineSpec, ProcessId, RunningMachine};

/// What OVMF says when no disk has anything to boot.
const FIRMWARE_SPOKE: &str = "Start PXE";

fn spec(name: &str) -> MachineSpec {
    MachineSpec::new(name, Boot::Firmware(Firmware::find().expect("OVMF (Debian: ovmf)"))).memory_mib(128)
}

#[test]
fn a_bounded_machine_speaks_and_is_gone_when_killed() {
    let spec = spec("speaks").forward(50000).expect("a port");
    let mut machine = Machine::start_bounded(&spec, Some("tcg"), Duration::from_secs(120)).expect("start");
    assert!(machine.port(50000).is_some() && machine.port(1).is_none());
    let line = machine.wait_console(FIRMWARE_SPOKE, Duration::from_secs(100)).expect("the firmware");
    assert!(line.contains(FIRMWARE_SPOKE), "{line}");
    let status = machine.qmp().expect("QMP").execute("query-status", serde_json::json!({})).expect("status");
    assert_eq!(status["status"], "running");
    let directory = machine.directory().to_owned();
    machine.kill();
    assert!(!machine.is_alive());
    drop(machine);
    assert!(!directory.exists(), "its files go with it");
}

#[test]
fn a_wait_ends_at_its_deadline_and_shows_the_console() {
    let machine = Machine::start_bounded(&spec("mute"), Some("tcg"), Duration::from_secs(60)).expect("start");
    let error = machine.wait_console("what nobody says", Duration::from_millis(200)).expect_err("a deadline").to_string();
    assert!(error.starts_with("waited 0 s for \"what nobody says\" on the console of the machine mute"), "{error}");
}

#[test]
fn the_limit_ends_a_machine() {
    let machine = Machine::start_bounded(&spec("limited"), Some("tcg"), Duration::from_secs(1)).expect("start");
    machine.wait_off(Duration::from_secs(30)).expect("the limit");
}

#[test]
fn a_detached_machine_is_found_again_and_ended() {
    // Longer than an address of a unix socket can be.
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path().join("a-directory-with-a-long-name".repeat(5));
    let machine = Machine::start(&spec("detached"), &directory, &[Accelerator::Tcg], Lifetime::Detached).expect("start");
    let record = serde_json::to_string(machine.record()).expect("a record");
    drop(machine);
    let mut machine = Machine::attach(serde_json::from_str::<RunningMachine>(&record).expect("the record"));
    assert!(machine.is_alive(), "dropping a detached machine leaves it running");
    machine.quit();
    assert!(!machine.is_alive());
}

#[test]
fn a_detached_machine_with_a_limit_ends_by_itself() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let lifetime = Lifetime::DetachedFor(Duration::from_secs(2));
    let machine = Machine::start(&spec("short-lived"), directory.path(), &[Accelerator::Tcg], lifetime).expect("start");
    let record = machine.record().clone();
    drop(machine);
    let machine = Machine::attach(record);
    assert!(machine.is_alive(), "dropping it leaves it running");
    machine.wait_off(Duration::from_secs(30)).expect("the limit");
}

#[test]
fn an_overlay_is_made_once_and_never_smaller_than_its_image() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let base = directory.path().join("base.raw");
    std::fs::File::create(&base).and_then(|file| file.set_len(8 << 20)).expect("base");
    let overlay =
        |size_bytes| spec("overlay").disk(Disk::Overlay { base: base.clone(), format: DiskFormat::Raw, size_bytes: Some(size_bytes) });
    let lifetime = Lifetime::Bounded(Duration::from_secs(20));
    let error = Machine::start(&overlay(4 << 20), directory.path(), &[Accelerator::Tcg], lifetime).expect_err("too small").to_string();
    assert!(error.contains("a disk of 4194304 bytes is too small") && error.contains("at least 8388608"), "{error}");
    drop(Machine::start(&overlay(16 << 20), directory.path(), &[Accelerator::Tcg], lifetime).expect("start"));
    let identity = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(directory.path().join("disk0.qcow2")).expect("the overlay"));
    let made = identity();
    drop(Machine::start(&overlay(16 << 20), directory.path(), &[Accelerator::Tcg], lifetime).expect("start again"));
    assert_eq!(identity(), made);
    assert_eq!(std::fs::metadata(&base).expect("base").len(), 8 << 20);
}

#[test]
fn what_qemu_does_not_like_is_told() {
    let mut spec = spec("wrong");
    spec.extra = vec!["-device".to_owned(), "nonsense".to_owned()];
    let error = Machine::start_bounded(&spec, Some("tcg"), Duration::from_secs(10)).expect_err("an error").to_string();
    assert!(error.contains("nonsense"), "{error}");
}

/// Started by the test below in a process of its own, which is then killed.
#[test]
#[ignore = "a part of a_machine_dies_with_the_process_that_started_it"]
fn start_and_wait_for_ever() {
    let machine = Machine::start_bounded(&spec("orphan"), Some("tcg"), Duration::from_secs(60)).expect("start");
    let path = std::env::var_os("RECORD").expect("RECORD");
    std::fs::write(path, serde_json::to_string(&machine.record().process).expect("a record")).expect("write");
    machine.wait_off(Duration::from_secs(60)).expect("the end");
}

#[test]
fn a_machine_dies_with_the_process_that_started_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let record = directory.path().join("record.json");
    let mut starter = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "start_and_wait_for_ever", "--ignored"])
        .env("RECORD", &record)
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test's other half");
    let process: ProcessId = wait(|| serde_json::from_slice(&std::fs::read(&record).ok()?).ok());
    assert!(process.is_alive());
    starter.kill().expect("kill");
    starter.wait().expect("wait");
    wait(|| (!process.is_alive()).then_some(()));
}

fn wait<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "waited 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
