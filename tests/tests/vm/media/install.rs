//! Installations from the ISO image.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::Drive;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};
use tests::place;

use crate::upgrade::swap::{HEALTH, Updates, running, upgrade};

/// Room for all partitions, and more for EPHEMERAL.
pub const DISK_BYTES: u64 = 12 << 30;
/// What the guest reads as the serial number of the first disk.
const SERIAL: &str = "corten0";
/// From the config to the first answer of the machine on its disk: writing and reading back, a restart and a boot.
pub const INSTALLED: Duration = Duration::from_secs(300);

/// A machine config that names the disk to install to.
pub fn install_to(selector: &str, wipe: bool) -> String {
    format!("{{ machine: {{ install: {{ disk: {selector}, wipe: {wipe} }} }} }}")
}

/// A machine config for the disk with the serial number of the first one.
pub fn by_serial() -> String {
    install_to(&format!("{{ serial: {SERIAL} }}"), false)
}

/// A machine with this medium in. The disk is tried first: an empty one cannot be booted.
pub fn with_medium(medium: Drive, patches: &[&str]) -> anyhow::Result<Node> {
    let mut node = Node::with("bare", patches)?;
    node.hardware.drives.push(medium);
    Ok(node)
}

/// The medium of the image that this repository builds.
pub fn iso() -> PathBuf {
    place::image("bare").join("corten.iso")
}

/// The machine's answer to a stranger, which it must be in maintenance for.
pub fn maintenance(node: &Node) -> anyhow::Result<Up> {
    let up = node.up()?;
    ensure!(matches!(up, Up::Maintenance { .. }), "expected maintenance, but the machine has a config");
    Ok(up)
}

/// What init found at boot: its field of this name.
pub fn boot_fact(node: &Node, up: &Up, field: &str) -> anyhow::Result<String> {
    let facts = node.json(up, &["get", "bootfacts", "--timeout", "20s"])?;
    facts[0]["status"][field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {facts}"))
}

/// Gives the config and waits for the machine on its disk.
pub fn install(node: &Node, up: &Up) -> anyhow::Result<()> {
    let before = node.boot_id(up)?;
    println!("  {}", node.ask(up, &["apply", "-f", &node.config()])?.trim());
    node.rebooted(&before, INSTALLED).map(drop)
}

/// From the medium to a machine that runs from its disk, and takes an update there.
fn installs(node: &mut Node, disk: &NbdDisk) -> anyhow::Result<()> {
    node.boot(disk)?;
    let up = maintenance(node)?;
    ensure!(boot_fact(node, &up, "medium")? == "iso", "booted from {}", boot_fact(node, &up, "medium")?);
    println!("  {}", node.ask(&up, &["get", "disks"])?);
    let disks = node.json(&up, &["get", "disks", "--timeout", "20s"])?.to_string();
    ensure!(disks.contains(&format!("\"{SERIAL}\"")), "no disk with serial {SERIAL} in {disks}");
    install(node, &up)?;
    ensure!(boot_fact(node, &Up::Configured, "disk")? == "/dev/vda", "runs from {}", boot_fact(node, &Up::Configured, "disk")?);
    ensure!(running(node)? == ("0.1.0".to_owned(), "a".to_owned()), "{:?} runs", running(node)?);

    let updates = Updates::new()?;
    let file = updates.build("bare", "0.2.0", |build| build)?;
    println!("  {}", upgrade(node, &file)?.trim());
    ensure!(running(node)? == ("0.2.0".to_owned(), "b".to_owned()), "after the upgrade {:?} runs", running(node)?);

    // The medium out, the power off and on.
    node.kill();
    node.hardware.remove_drives();
    node.boot(disk)?;
    ensure!(node.up()? == Up::Configured, "without the medium, the machine has no config");
    ensure!(running(node)?.0 == "0.2.0", "after a power cut {:?} runs", running(node)?);
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_machine_is_installed_from_the_iso_in_an_optical_drive() -> anyhow::Result<()> {
    let mut node = with_medium(Drive::optical(iso()), &[HEALTH, &by_serial()])?;
    installs(&mut node, &NbdDisk::empty(DISK_BYTES)?)
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_machine_is_installed_on_a_disk_with_sectors_of_4_kib() -> anyhow::Result<()> {
    let mut node = with_medium(Drive::optical(iso()), &[HEALTH, &by_serial()])?;
    installs(&mut node, &NbdDisk::empty_with_sectors(DISK_BYTES, 4096)?)
}
