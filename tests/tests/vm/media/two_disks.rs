//! Two disks with Corten: the one runs that the firmware started, whatever the order in which the kernel finds them.

use anyhow::ensure;
use testbed::{BootOrder, Disk, DiskFormat, Drive};
use tests::images::Build;
use tests::node::Node;
use tests::place;

use super::install::{boot_fact, maintenance};

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn the_disk_that_the_firmware_chose_is_the_machine_s() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let other = folder.path().join("other");
    Build::new("bare", "0.2.0")
        .argument("--update-key")
        .argument(place::update_key())
        .argument("--update-level")
        .argument("1")
        .write(&other)?;
    let mut node = Node::new("bare")?;
    let disk = node.disk()?;
    let base = other.join("disk.raw");
    node.hardware.drives.push(Drive::new(Disk::Overlay { base, format: DiskFormat::Raw, size_bytes: None }));
    for (order, expected) in [(vec![1, 0], ("0.2.0", "/dev/vdb")), (vec![0, 1], ("0.1.0", "/dev/vda"))] {
        node.hardware.boot_order = BootOrder::Drives(order);
        node.boot(&disk)?;
        let up = maintenance(&node)?;
        let version = node.json(&up, &["version", "--timeout", "20s"])?[0]["version"].as_str().unwrap_or_default().to_owned();
        let seen = boot_fact(&node, &up, "disk")?;
        ensure!((version.as_str(), seen.as_str()) == expected, "version {version} runs from {seen}; expected {expected:?}");
        node.kill();
    }
    Ok(())
}
