//! An image that the firmware cannot load: nothing of it ever runs, no watchdog does either, and nobody is there to press a key.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use machine::disk::{Partition, Slot};
use testbed::BootOrder;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};
use tests::program;

use super::power::disk::{Esp, start};
use super::swap::{HEALTH, Updates, last_record, running};

/// From power-on to the old image, all tries of the new one included.
pub const FALL_BACK: Duration = Duration::from_secs(300);
/// From the command to power-off.
const OFF: Duration = Duration::from_secs(120);

/// Waits for the machine in this version, and checks that nothing else ran since power-on or since it was upgraded.
pub fn falls_back(node: &Node, version: &str, slot: char) -> anyhow::Result<()> {
    let mut last = String::new();
    let look = || match running(node) {
        Ok(found) if found == (version.to_owned(), slot.to_string()) => Ok(Some(())),
        Ok(found) => Err(testbed::Error::Qmp { command: "version".to_owned(), reason: format!("{found:?} runs") }),
        Err(error) => {
            last = format!("{error:#}");
            Ok(None)
        }
    };
    node.machine()?.wait(&format!("{version} in slot {slot}"), FALL_BACK, look).with_context(|| last)?;
    let record = last_record(node)?["status"].clone();
    println!("    {}: {}", record["reason"]["check"], record["reason"]["message"]);
    let message = record["reason"]["message"].as_str().unwrap_or_default();
    ensure!(record["phase"] == "failed" && message.starts_with("the new image did not come up: 3 boots"), "the upgrade's record: {record}");
    Ok(())
}

/// Where the first bytes of a slot's UKI lie on the disk.
fn uki_at(disk: &NbdDisk, slot: Slot) -> anyhow::Result<u64> {
    let esp = Esp::of(disk)?;
    let printed = program::printed(Command::new("mshowfat").arg("-i").arg(esp.path()).arg(format!("::/corten/{}.efi", slot.name())))?;
    // `::/corten/b.efi <5-3307>`
    let clusters = printed.rsplit_once('<').map(|(_, clusters)| clusters).with_context(|| printed.clone())?;
    let first: u64 = clusters.split(['-', '>', ' ']).next().unwrap_or_default().parse().with_context(|| printed.clone())?;
    let boot = std::fs::read(esp.path())?;
    // BIOS parameter block of FAT32 (Microsoft, "FAT: General Overview of On-Disk Format").
    let field = |at: usize, bytes: usize| boot[at..at + bytes].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let (sector, cluster, reserved, tables, table) = (field(11, 2), field(13, 1), field(14, 2), field(16, 1), field(36, 4));
    Ok(start(disk, Partition::Esp)? + (reserved + tables * table + (first - 2) * cluster) * sector)
}

/// Flips the bits of the PE signature, which the program's first sector has.
fn damage(disk: &NbdDisk, slot: Slot) -> anyhow::Result<()> {
    let at = uki_at(disk, slot)?;
    let mut sector = [0; 512];
    disk.read(at, &mut sector)?;
    ensure!(sector.starts_with(b"MZ"), "byte {at} of the disk is not where slot {}'s UKI begins", slot.name());
    let signature = sector.windows(4).position(|bytes| bytes == b"PE\0\0").context("no PE signature in the first sector")?;
    sector[signature] ^= 0xff;
    Ok(disk.overwrite(at, &sector)?)
}

/// A machine that was never installed: its firmware knows no boot option of it but the one that it made itself.
fn staged(updates: &Updates) -> anyhow::Result<(Node, NbdDisk, PathBuf)> {
    let file = updates.build("bare", "0.2.0", |build| build)?;
    let mut node = Node::with("bare", &[HEALTH])?;
    node.hardware.boot_order = BootOrder::Variables;
    let disk = node.configured()?;
    node.ask(&Up::Configured, &["upgrade", file.to_str().context("a path in UTF-8")?, "--yes", "--stage"])?;
    node.ask(&Up::Configured, &["shutdown", "--yes"])?;
    node.machine()?.wait_off(OFF)?;
    node.kill();
    Ok((node, disk, file))
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_uki_that_rots_before_its_first_boot_leaves_no_machine_at_the_firmware_s_prompt() -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let (mut node, disk, _) = staged(&updates)?;
    damage(&disk, Slot::B)?;
    let options = node.hardware.boot_options()?;
    println!("  {}", options.iter().map(|option| option.description.as_str()).collect::<Vec<_>>().join(", "));
    ensure!(options.iter().filter(|option| option.description.starts_with("Corten")).count() == 4, "three tries and one more: {options:?}");
    let began = std::time::Instant::now();
    node.boot(&disk)?;
    falls_back(&node, "0.1.0", 'a')?;
    println!("    {} s from power-on", began.elapsed().as_secs());
    ensure!(node.slots_booted()? == ['a'], "booted {:?} in one power-on", node.slots_booted()?);
    Ok(())
}
