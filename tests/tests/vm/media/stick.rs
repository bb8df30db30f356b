//! A server: the image of `metal` on a USB stick, and a disk behind a controller that servers have.

use std::time::Instant;

use anyhow::{Context, ensure};
use testbed::nbd::NbdDisk;
use testbed::{Device, Drive};
use tests::images::Build;
use tests::node::Up;

use super::install::{DISK_BYTES, boot_fact, by_serial, install, maintenance, with_medium};

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_server_is_installed_from_a_stick() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("bare-metal");
    let began = Instant::now();
    Build::new("bare", "0.1.0").argument("--platform").argument("metal").write(&out)?;
    let size = |name: &str| Ok::<_, anyhow::Error>(std::fs::metadata(out.join(name)).with_context(|| name.to_owned())?.len() >> 20);
    println!("  built in {} s: ISO {} MiB, root {} MiB", began.elapsed().as_secs(), size("corten.iso")?, size("root.erofs")?);
    for (device, name) in [(Device::Sata { wwn: None }, "/dev/sd"), (Device::Nvme { wwn: None }, "/dev/nvme0n1")] {
        let mut node = with_medium(Drive::stick(out.join("corten.iso")), &[&by_serial()])?;
        node.hardware.disk = device;
        let disk = NbdDisk::empty(DISK_BYTES)?;
        node.boot(&disk)?;
        let up = maintenance(&node)?;
        for (fact, expected) in [("platform", "metal"), ("medium", "iso")] {
            ensure!(boot_fact(&node, &up, fact)? == expected, "{fact} {}", boot_fact(&node, &up, fact)?);
        }
        println!("  {}", node.ask(&up, &["get", "disks"])?);
        install(&node, &up)?;
        ensure!(boot_fact(&node, &Up::Configured, "medium")? == "disk", "the stick was booted again");
        let disk = boot_fact(&node, &Up::Configured, "disk")?;
        ensure!(disk.starts_with(name), "runs from {disk}; expected {name}");
    }
    Ok(())
}
