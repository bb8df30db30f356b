//! Boots over the network: kernel, initramfs and command line come from elsewhere, and no entry of a boot loader says anything.

use std::os::unix::fs::symlink;

use anyhow::{Context, ensure};
use testbed::nbd::NbdDisk;
use testbed::{Boot, NetworkBoot};
use tests::node::{Node, Up};

use super::install::{DISK_BYTES, INSTALLED, boot_fact, by_serial, install, maintenance};

fn command_line(node: &Node) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(node.image().join("command-line")).context("the image's command line (make image)")?;
    Ok(text.trim().to_owned())
}

/// What a boot server hands out of the node's image, loaded by QEMU itself.
fn handed_out(node: &Node) -> anyhow::Result<Boot> {
    let at = |name: &str| node.image().join(name);
    Ok(Boot::Kernel { kernel: at("kernel"), initrd: Some(at("initramfs.pxe")), command_line: command_line(node)? })
}

/// A boot server's folder, with the script for iPXE that docs/images.md shows.
fn boot_server(node: &Node) -> anyhow::Result<NetworkBoot> {
    let folder = node.file("boot-server");
    std::fs::create_dir(&folder)?;
    ["kernel", "initramfs.pxe"].iter().try_for_each(|name| symlink(node.image().join(name), folder.join(name)))?;
    let script = format!("#!ipxe\nkernel kernel initrd=initramfs.pxe {}\ninitrd initramfs.pxe\nboot\n", command_line(node)?);
    std::fs::write(folder.join("boot.ipxe"), script)?;
    Ok(NetworkBoot { folder, file: "boot.ipxe".to_owned() })
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn firmware_boots_over_the_network_until_there_is_something_on_the_disk() -> anyhow::Result<()> {
    let mut node = Node::with("bare", &[&by_serial()])?;
    node.hardware.network_boot = Some(boot_server(&node)?);
    let disk = NbdDisk::empty(DISK_BYTES)?;
    let began = std::time::Instant::now();
    node.boot(&disk)?;
    let up = maintenance(&node)?;
    println!("  in maintenance after {} s", began.elapsed().as_secs());
    ensure!(boot_fact(&node, &up, "medium")? == "network", "booted from {}", boot_fact(&node, &up, "medium")?);
    install(&node, &up)?;
    ensure!(boot_fact(&node, &Up::Configured, "medium")? == "disk", "runs from {}", boot_fact(&node, &Up::Configured, "medium")?);
    let first = node.hardware.boot_options()?.into_iter().next().context("no boot options")?;
    ensure!(first.description == "Corten", "the firmware's first option is {first:?}");
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_kernel_from_elsewhere_installs_the_machine() -> anyhow::Result<()> {
    let mut node = Node::with("bare", &[&by_serial()])?;
    node.hardware.kernel = Some(handed_out(&node)?);
    let disk = NbdDisk::empty(DISK_BYTES)?;
    node.boot(&disk)?;
    let up = maintenance(&node)?;
    ensure!(boot_fact(&node, &up, "medium")? == "network", "booted from {}", boot_fact(&node, &up, "medium")?);
    println!("  {}", node.ask(&up, &["apply", "-f", &node.config()])?.trim());
    node.machine()?.wait_console("installed on /dev/vda", INSTALLED)?;
    // QEMU would load the same kernel again: from here on the firmware boots the disk.
    node.machine()?.wait_console("reboot: Restarting system", INSTALLED)?;
    node.kill();
    node.hardware.kernel = None;
    node.boot(&disk)?;
    ensure!(node.up()? == Up::Configured, "the installed machine has no config");
    ensure!(boot_fact(&node, &Up::Configured, "medium")? == "disk", "runs from {}", boot_fact(&node, &Up::Configured, "medium")?);
    Ok(())
}
