//! Cuts while a machine is installed from the ISO image: it boots from its disk with its config, or from the medium again as if nothing had been.

use std::time::Instant;

use anyhow::ensure;
use machine::disk::Slot;
use testbed::Drive;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};
use tests::place;
use tests::program::Running;
use tests::until::{BETWEEN_LOOKS, until};

use super::super::swap::{HEALTH, running};
use super::cut::{Cut, PATIENCE};
use super::look::sane;
use super::prepared::{BLESSING, generation, kept};
use crate::media::install::{DISK_BYTES, by_serial, install, iso, with_medium};

/// What came of it.
pub fn happens(cut: Cut) -> anyhow::Result<String> {
    let began = Instant::now();
    let mut node = with_medium(Drive::optical(iso()), &[HEALTH, &by_serial()])?;
    let disk = NbdDisk::empty(DISK_BYTES)?;
    let installed = interrupt(cut, &mut node, &disk)?;
    cut.take_power(&disk, installed)?;

    node.boot(&disk)?;
    let up = node.up()?;
    ensure!(up == Up::Configured || !installed, "what was installed is gone");
    let found = if up == Up::Configured {
        "installed"
    } else {
        install(&node, &up)?;
        "nothing installed; installed by the command again"
    };
    ensure!(running(&node)? == ("0.1.0".to_owned(), "a".to_owned()), "{:?} runs", running(&node)?);
    ensure!(generation(&node)? == 1, "another config is in force");
    until("an image that is kept", BLESSING, || kept(&node, "a"))?;
    sane(&disk, &[(Slot::A, place::image("bare"))])?;
    node.kill();
    Ok(format!("{found}; {} s", began.elapsed().as_secs()))
}

/// Whether the machine had come up from its disk when the power went.
fn interrupt(cut: Cut, node: &mut Node, disk: &NbdDisk) -> anyhow::Result<bool> {
    node.boot(disk)?;
    let up = node.up()?;
    ensure!(matches!(up, Up::Maintenance { .. }), "an empty disk has a config");
    let (flushes, writes) = (disk.flushes(), disk.writes());
    disk.cut_at(cut.at);
    let began = Instant::now();
    let mut command = Running::start(&mut node.command(&up, &["apply", "-f", &node.config()])?)?;
    let mut installed = false;
    while !disk.wait_cut(BETWEEN_LOOKS) && !installed && began.elapsed() < PATIENCE {
        installed = command.is_over()? && kept(node, "a").is_ok();
    }
    node.kill();
    println!("  {} flushes, {} writes", disk.flushes() - flushes, disk.writes() - writes);
    Ok(installed)
}
