//! Boot time, ours beside Debian's: guest time from kernel entry to an agent that answers, and to systemd's multi-user.target. And how long a
//! restart takes from being asked for until it answers again: what a swap of the image costs a machine, but for firmware and boot loader.
//!
//! Both boot the same kernel, handed over by QEMU, on the same machine: one processor whose time is counted in instructions. A processor
//! that waits for the disk waits in real time; were that time skipped to the next timer instead (`sleep=off`), a boot would take
//! anything from its own length to four times as much, because disk requests end outside of counted time.

mod kernel;
mod peer;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::tests::until::until;
use ::tests::{place, program};
use anyhow::Context;
use serde_json::json;
use testbed::{Accelerator, Boot, Disk, DiskFormat, Lifetime, Machine, MachineSpec};

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use crate::{programs, report};
use kernel::Kernel;
use peer::{Initramfs, Peer};

/// No boot may take longer, in real time.
const LIMIT: Duration = Duration::from_secs(900);
const MEMORY_MIB: u64 = 1024;
const GOAL: Goal = Goal::RatioAtMost(0.35);
const DOWNTIME_GOAL: Goal = Goal::RatioAtMost(0.5);

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let image = programs::image("bare");
    programs::check(&image)?;
    let kernel = Kernel::of(&image, &report::directory().join("kernel"))?;
    let peer = Peer::prepare(&report::directory().join("peer"), &kernel)?;

    let (mut first, mut later) = (Samples::default(), Samples::default());
    let (mut lean, mut usual) = (Samples::default(), Samples::default());
    let (mut down, mut peer_down) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let folder = tempfile::Builder::new().prefix("corten-bench-boot-").tempdir()?;
        let spec = ours(&kernel, &image)?;
        let begun = until_agent(&spec, folder.path())?;
        let again = until_agent(&spec, folder.path())?;
        let peer_lean = until_multi_user(&kernel, &peer, Initramfs::Lean)?;
        first.push(begun.up);
        later.push(again.up);
        down.push(begun.stop + again.up);
        lean.push(peer_lean.up);
        peer_down.push(peer_lean.stop + peer_lean.up);
        usual.push(until_multi_user(&kernel, &peer, Initramfs::Usual)?.up);
    }
    let figures = vec![
        Figure::beside("boot, peer's initramfs lean", Unit::Seconds, later.clone(), lean.clone(), GOAL),
        Figure::beside("first boot, peer's initramfs lean", Unit::Seconds, first, lean, GOAL),
        Figure::beside("boot, peer's initramfs usual", Unit::Seconds, later, usual, Goal::None),
        Figure::beside("downtime of a restart, peer's initramfs lean", Unit::Seconds, down, peer_down, DOWNTIME_GOAL),
    ];
    let notes = vec![
        "guest time under -icount shift=1, one processor, 1 GiB, same kernel, no firmware: from kernel entry to".to_owned(),
        "ours: the agent listens and has its certificate (READY=1 at init); right after, GetVersion must answer".to_owned(),
        format!("peer: multi-user.target is active ({})", peer.versions),
        "downtime: from being asked to restart (both still answer) to the kernel's restart, and from kernel entry to the same point as"
            .to_owned(),
        "above; an A/B swap is this into the other slot, with firmware and boot loader in between, which are the same for both".to_owned(),
        "first boot: STATE is made, disk and machine get their own UUIDs; the peer has booted before".to_owned(),
        "lean: the peer's initramfs made for this machine's disk only; usual: as dracut makes it for any machine".to_owned(),
    ];
    Ok(Outcome { figures, notes, details: json!({ "kernel": kernel.release, "peer": peer.versions }) })
}

fn ours(kernel: &Kernel, image: &Path) -> anyhow::Result<MachineSpec> {
    let boot = Boot::Kernel {
        kernel: kernel.path.clone(),
        initrd: Some(kernel.initramfs.clone()),
        // No boot loader says which disk was booted.
        command_line: format!("{} corten.disk=/dev/vda", kernel.command_line),
    };
    let disk = Disk::Overlay { base: image.join("disk.qcow2"), format: DiskFormat::Qcow2, size_bytes: None };
    Ok(machine("ours", boot, disk).forward(api::PORT)?)
}

fn machine(name: &str, boot: Boot, disk: Disk) -> MachineSpec {
    let mut spec = MachineSpec::new(name, boot).memory_mib(MEMORY_MIB).disk(disk);
    // A machine that restarts is at its end.
    spec.extra.push("-no-reboot".to_owned());
    spec
}

/// One boot, in seconds of guest time.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// From kernel entry until it serves.
    up: f64,
    /// From being asked to restart until the kernel restarts.
    stop: f64,
}

/// Boots, sees that the agent answers, and reboots cleanly, which ends the machine: the next boot finds its disk in order.
fn until_agent(spec: &MachineSpec, folder: &Path) -> anyhow::Result<Times> {
    let machine = Machine::start(spec, folder, &[Accelerator::Icount], Lifetime::Bounded(LIMIT))?;
    let line = machine.wait_console("nodeagent is ready", LIMIT)?;
    let ready = stamp(&line).with_context(|| format!("no time in {line:?}"))?;
    let node = format!("127.0.0.1:{}", machine.port(api::PORT).context("the API's port is not forwarded")?);
    until("the agent's answer", Duration::from_secs(120), || machinectl(&["--insecure", "--nodes", &node, "version"]))?;
    machinectl(&["--insecure", "--nodes", &node, "reboot", "--yes"])?;
    machine.wait_off(LIMIT)?;
    let asked = machine.console().line_with("Reboot requested")?.and_then(|line| stamp(&line)).context("no line of the asked reboot")?;
    let restarted = restarted(&machine.console().text()?).context("no line of the kernel's restart")?;
    Ok(Times { up: ready, stop: restarted - asked })
}

fn until_multi_user(kernel: &Kernel, peer: &Peer, initramfs: Initramfs) -> anyhow::Result<Times> {
    let folder = tempfile::Builder::new().prefix("corten-bench-peer-").tempdir()?;
    let boot = Boot::Kernel {
        kernel: kernel.path.clone(),
        initrd: Some(peer.initramfs(initramfs)),
        command_line: format!("{} root=/dev/vda rw", kernel.common_command_line()),
    };
    let disk = Disk::Overlay { base: peer.disk.clone(), format: DiskFormat::Raw, size_bytes: None };
    let machine = Machine::start(&machine("peer", boot, disk), folder.path(), &[Accelerator::Icount], Lifetime::Bounded(LIMIT))?;
    machine.wait_off(LIMIT)?;
    let console = machine.console();
    let text = console.text()?;
    let up = peer::reached(&text).with_context(|| format!("the peer did not say when it was up:\n{}", console.tail()))?;
    let stop = peer::stopped(&text).with_context(|| format!("the peer did not say when it restarted:\n{}", console.tail()))?;
    Ok(Times { up, stop })
}

/// When the kernel restarts, in seconds since its entry.
fn restarted(console: &str) -> Option<f64> {
    stamp(console.lines().find(|line| line.contains("reboot: Restarting system"))?)
}

fn machinectl(arguments: &[&str]) -> anyhow::Result<()> {
    program::printed(Command::new(place::machinectl()).args(arguments)).map(drop)
}

/// Seconds since kernel entry, as a console line begins: `[    3.214] corten: ...`.
fn stamp(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_line_begins_with_its_time() {
        assert_eq!(stamp("[    3.214] corten: nodeagent is ready"), Some(3.214));
        assert_eq!(stamp("corten: nodeagent is ready"), None);
        assert_eq!(stamp("[x] corten"), None);
    }
}
