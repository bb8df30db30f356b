//! The NBD disk as QEMU's own client sees it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::nbd::{CutAt, NbdDisk};

const MIB: u64 = 1024 * 1024;

fn url(disk: &NbdDisk) -> String {
    format!("nbd+unix:///?socket={}", disk.socket().display())
}

fn command(disk: &NbdDisk, commands: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["30", "qemu-io", "-f", "raw", "-t", "writeback"]);
    for qemu_io in commands {
        command.args(["-c", qemu_io]);
    }
    command.arg(url(disk)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(disk: &NbdDisk, commands: &[&str]) -> Output {
    command(disk, commands).output().expect("qemu-io (Debian: qemu-utils)")
}

fn io(disk: &NbdDisk, commands: &[&str]) {
    let output = run(disk, commands);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains("failed"), "{commands:?}: {text}");
}

/// Whether the pattern stands at the offset.
fn reads(disk: &NbdDisk, pattern: &str, offset: &str, length: &str) -> bool {
    let output = run(disk, &[&format!("read -P {pattern} {offset} {length}")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("bytes at offset"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    !text.contains("Pattern verification failed")
}

/// Runs commands in a client that never closes the disk, because closing flushes: the commands, then a read that reports they are done.
fn leave_unflushed(disk: &NbdDisk, commands: &[&str]) -> Child {
    let before = disk.writes();
    let mut commands = commands.to_vec();
    let writes = commands.len() as u64;
    commands.push("sleep 20000");
    let child = command(disk, &commands).spawn().expect("qemu-io");
    let started = Instant::now();
    while disk.writes() < before + writes {
        assert!(started.elapsed() < Duration::from_secs(20), "qemu-io wrote nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn end(mut client: Child) {
    let pid = client.id();
    // `timeout` hands the signal on; SIGKILL it could not.
    Command::new("kill").arg(pid.to_string()).status().expect("kill");
    client.wait().expect("wait");
}

#[test]
fn qemu_reads_back_what_it_wrote() {
    let disk = NbdDisk::empty(64 * MIB).expect("a disk");
    io(&disk, &["write -P 0xab 1M 3M", "write -P 0xcd 2M 512", "write -z 3M 64k", "flush"]);
    assert!(reads(&disk, "0xcd", "2M", "512"));
    assert!(reads(&disk, "0xab", "2097664", "512k") && reads(&disk, "0", "3M", "64k") && reads(&disk, "0", "10M", "1M"));
    assert!(disk.flushes() >= 1 && disk.writes() >= 3);
    io(&disk, &["discard 1M 1M"]);
    assert!(reads(&disk, "0", "1M", "1M"));
}

#[test]
fn the_image_below_is_seen_and_never_changed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let base = directory.path().join("base.raw");
    std::fs::write(&base, vec![0x5a; MIB as usize]).expect("base");
    let disk = NbdDisk::over(&base, 4 * MIB).expect("a disk");
    let size = Command::new("qemu-img").args(["info", "--output=json", &url(&disk)]).output().expect("qemu-img");
    assert!(String::from_utf8_lossy(&size.stdout).contains("\"virtual-size\": 4194304"));
    io(&disk, &["write -P 1 512k 1M", "flush"]);
    assert!(reads(&disk, "0x5a", "0", "512k") && reads(&disk, "1", "512k", "1M") && reads(&disk, "0", "2M", "1M"));
    assert_eq!(std::fs::read(Path::new(&base)).expect("base"), vec![0x5a; MIB as usize]);
}

#[test]
fn what_a_test_changes_is_read_and_outlives_a_cut() {
    let disk = NbdDisk::empty(64 * MIB).expect("a disk");
    io(&disk, &["write -P 0xab 1M 64k", "flush"]);
    let writes = disk.writes();
    disk.overwrite(MIB + 512, &[0x5a; 512]).expect("write");
    assert_eq!(disk.writes(), writes, "it is not the machine's");
    disk.cut(1).expect("cut");
    assert!(reads(&disk, "0x5a", "1049088", "512") && reads(&disk, "0xab", "1M", "512") && reads(&disk, "0xab", "1049600", "512"));
}

#[test]
fn a_cut_loses_what_was_not_flushed_and_nothing_else() {
    let disk = NbdDisk::empty(16 * MIB).expect("a disk");
    io(&disk, &["write -P 0x11 0 1M", "flush"]);
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..12 {
        let client = leave_unflushed(&disk, &["write -P 0x22 4M 512"]);
        let report = disk.cut(seed).expect("cut");
        end(client);
        assert_eq!((report.kept + report.lost, report.torn), (1, 0), "one sector cannot tear");
        assert_eq!(reads(&disk, "0x22", "4M", "512"), report.kept == 1, "seed {seed}");
        assert!(reads(&disk, "0x11", "0", "1M"));
        (lost, kept) = (lost + report.lost, kept + report.kept);
        io(&disk, &["write -z 4M 512", "flush"]);
    }
    assert!(lost > 0 && kept > 0, "lost {lost}, kept {kept}");
}

#[test]
fn the_power_fails_at_the_flush_that_was_named() {
    let disk = NbdDisk::empty(16 * MIB).expect("a disk");
    disk.cut_at(CutAt::Flush(2));
    let mut client =
        command(&disk, &["write -P 1 0 64k", "flush", "write -P 2 1M 512", "flush", "write -P 3 2M 512"]).spawn().expect("qemu-io");
    assert!(disk.wait_cut(Duration::from_secs(20)));
    assert!(client.try_wait().expect("wait").is_none(), "the second flush must not be answered");
    assert_eq!((disk.flushes(), disk.writes()), (2, 2));
    end(client);
    disk.cut(1).expect("cut");
    assert!(reads(&disk, "1", "0", "64k") && reads(&disk, "0", "2M", "512"));
    assert!(!disk.wait_cut(Duration::ZERO), "the power is back");
}

#[test]
fn the_power_fails_at_the_write_that_was_named() {
    let disk = NbdDisk::empty(16 * MIB).expect("a disk");
    io(&disk, &["write -P 9 8M 512"]);
    disk.cut_at(CutAt::Write(2));
    let client = command(&disk, &["write -P 1 0 512", "write -P 2 1M 512", "write -P 3 2M 512"]).spawn().expect("qemu-io");
    assert!(disk.wait_cut(Duration::from_secs(20)));
    assert_eq!(disk.writes(), 3);
    end(client);
    disk.cut(1).expect("cut");
    assert!(reads(&disk, "9", "8M", "512") && reads(&disk, "0", "2M", "512"));
}

#[test]
fn what_lies_beyond_the_disk_is_refused() {
    let disk = NbdDisk::empty(MIB).expect("a disk");
    let output = run(&disk, &["write -P 1 1M 512"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() || text.contains("failed") || text.contains("Invalid"), "{text}");
    assert_eq!(disk.writes(), 0);
}

#[test]
fn a_disk_with_large_sectors_takes_whole_ones_only() {
    let disk = NbdDisk::empty_with_sectors(MIB, 4096).expect("a disk");
    let info = Command::new("timeout").args(["30", "qemu-img", "info", "--output=json", &url(&disk)]).output().expect("qemu-img");
    assert!(String::from_utf8_lossy(&info.stdout).contains("\"virtual-size\": 1048576"));
    // QEMU's client reads around a smaller write, as the disk tells it to.
    io(&disk, &["write -P 7 0 64k", "write -P 9 4608 512", "flush"]);
    assert!(reads(&disk, "7", "4096", "512") && reads(&disk, "9", "4608", "512") && reads(&disk, "7", "5120", "3072"));
    let error = NbdDisk::empty_with_sectors(MIB, 1024).expect_err("an error").to_string();
    assert!(error.contains("sectors of 1024; expected sectors of 512 or 4096"), "{error}");
}
