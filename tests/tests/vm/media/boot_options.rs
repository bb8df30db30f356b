//! What the firmware is told of an installation, and boots by when nobody says from what: as on hardware, with the medium left in.

use anyhow::ensure;
use testbed::nbd::NbdDisk;
use testbed::{BootOrder, Drive};
use tests::node::{Node, Up};

use super::install::{DISK_BYTES, boot_fact, by_serial, install, iso, maintenance, with_medium};

/// From its disk, under its config.
fn runs_from_disk(node: &Node) -> anyhow::Result<()> {
    ensure!(node.up()? == Up::Configured, "the installed machine has no config");
    let medium = boot_fact(node, &Up::Configured, "medium")?;
    ensure!(medium == "disk", "runs from {medium}");
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn the_firmware_starts_the_disk_though_the_medium_stays_in() -> anyhow::Result<()> {
    let mut node = with_medium(Drive::optical(iso()), &[&by_serial()])?;
    node.hardware.boot_order = BootOrder::Variables;
    let disk = NbdDisk::empty(DISK_BYTES)?;
    node.boot(&disk)?;
    let up = maintenance(&node)?;
    install(&node, &up)?;
    ensure!(boot_fact(&node, &Up::Configured, "medium")? == "disk", "the medium was booted again");
    node.kill();

    let options = node.hardware.boot_options()?;
    options.iter().for_each(|option| println!("  {option:?}"));
    let ours: Vec<&str> = options.iter().take(4).map(|option| option.description.as_str()).collect();
    ensure!(ours == ["Corten", "Corten (2)", "Corten (3)", "Corten (4)"], "the firmware's options are {options:?}");
    for option in &options[..4] {
        let file = option.file.as_deref().unwrap_or_default();
        ensure!(option.active && file.eq_ignore_ascii_case("\\EFI\\systemd\\systemd-bootx64.efi"), "{option:?}");
    }
    node.boot(&disk)?;
    runs_from_disk(&node)?;
    node.kill();

    // A flat battery, another board: the loader is where firmware looks that was told nothing.
    node.hardware.forget_variables()?;
    node.hardware.drives.clear();
    node.boot(&disk)?;
    runs_from_disk(&node)
}
