//! What the firmware starts and what not, and what a machine says of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use testbed::nbd::NbdDisk;
use tests::images::{Owner, measured};
use tests::node::{Node, Up};
use tests::place;

/// From power-on until the firmware gives a disk up.
pub const REFUSED: Duration = Duration::from_secs(120);

/// What the running boot says of how it was checked and measured.
pub fn security(node: &Node) -> anyhow::Result<Value> {
    let objects = node.resources("security")?;
    println!("  {}", node.ask(&Up::Configured, &["get", "security", "--timeout", "20s"])?.trim());
    objects.into_iter().next().map(|object| object["status"].clone()).context("no object of kind security")
}

/// That the firmware checked the boot, the kernel is locked down, and the TPM holds what this UKI leaves there.
pub fn is_vouched_for(node: &Node, uki: &std::path::Path) -> anyhow::Result<()> {
    let seen = security(node)?;
    ensure!(seen["secureBoot"] == "on", "Secure Boot is not on: {seen}");
    ensure!(["integrity", "confidentiality"].contains(&seen["lockdown"].as_str().unwrap_or_default()), "no lockdown: {seen}");
    let expected = measured::register_11(&fs::read(uki).with_context(|| uki.display().to_string())?)?;
    ensure!(seen["tpm"] == true && seen["pcr11"] == expected.as_str(), "register 11 should hold {expected}: {seen}");
    Ok(())
}

/// That the firmware starts nothing from this disk.
pub fn is_refused(node: &mut Node, disk: &NbdDisk) -> anyhow::Result<()> {
    node.boot(disk)?;
    node.machine()?.wait_console("Access Denied", REFUSED)?;
    ensure!(node.slots_booted()?.is_empty(), "an image booted all the same");
    node.kill();
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=secure_boot"]
fn what_the_owner_signed_boots_locked_down_and_measured_and_nothing_else_does() -> anyhow::Result<()> {
    let owner = Owner::new()?;
    let image = owner.image("bare", "0.1.0")?;
    let mut node = Node::new("bare")?.from_image(&image);
    node.hardware.firmware = owner.firmware()?;
    node.hardware.tpm = true;
    let _disk = node.configured()?;
    is_vouched_for(&node, &image.join("uki.efi"))?;
    node.kill();

    // The same machine with the disk of an image that nobody signed.
    let mut node = node.from_image(place::image("bare"));
    let unsigned = node.disk()?;
    is_refused(&mut node, &unsigned)
}
