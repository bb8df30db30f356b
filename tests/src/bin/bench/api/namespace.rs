//! Namespaces of the calling thread and of what it starts: the ports are constants of both servers, and an agent that is measured must
//! change nothing of the host.

use std::process::Command;

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, unshare};

/// Takes the thread into a network, a host name and mounts of its own, with the loopback up.
pub fn enter() -> anyhow::Result<()> {
    let apart = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS;
    unshare(apart).context("making namespaces: expected root")?;
    let output = Command::new("ip").args(["link", "set", "lo", "up"]).output().context("starting ip (iproute2)")?;
    ensure!(output.status.success(), "ip link set lo up: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
