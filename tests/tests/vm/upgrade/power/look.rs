//! What must be true of a machine after any cut.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use machine::disk::Slot;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};
use tests::until::until;

use super::disk::{self, Esp};

/// What the agent clears up when it starts.
const TIDY: Duration = Duration::from_secs(60);

/// At most one entry a slot and nothing half written, and whatever the boot loader would start is whole. `images` are folders of the images
/// that slots may hold.
pub fn sane(disk: &NbdDisk, images: &[(Slot, PathBuf)]) -> anyhow::Result<()> {
    let (esp, names) = until("one entry a slot", TIDY, || one_entry_a_slot(disk))?;
    for (slot, image) in images {
        if names.iter().any(|name| name.starts_with(&format!("corten-{}", slot.name())) && !name.contains("+0")) {
            disk::holds(disk, *slot, image)?;
            esp.holds(*slot, &image.join("uki.efi"))?;
        }
    }
    Ok(())
}

fn one_entry_a_slot(disk: &NbdDisk) -> anyhow::Result<(Esp, Vec<String>)> {
    let esp = Esp::of(disk)?;
    esp.check()?;
    let names = esp.entries()?;
    for slot in Slot::ALL {
        let of_slot = names.iter().filter(|name| name.trim_start_matches('.').starts_with(&format!("corten-{}", slot.name())));
        ensure!(of_slot.count() <= 1, "entries: {names:?}");
    }
    ensure!(names.iter().any(|name| !name.contains("+0")), "nothing to boot: {names:?}");
    Ok((esp, names))
}

/// That nothing that was read from the root was damaged.
pub fn no_corruption(node: &Node) -> anyhow::Result<()> {
    let log = node.ask(&Up::Configured, &["dmesg", "--timeout", "60s"])?;
    let bad: Vec<&str> = log.lines().filter(|line| line.contains("is corrupted") || line.contains("verity: Error")).collect();
    ensure!(bad.is_empty(), "{bad:?}");
    Ok(())
}
