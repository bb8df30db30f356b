//! Boots over the network: kernel, initramfs and command line come from elsewhere, and no entry of a boot loader says anything.

use anyhow::{Context, ensure};
use testbed::Boot;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};

use super::install::{DISK_BYTES, INSTALLED, boot_fact, install_to, maintenance};

/// What a boot server hands out of the node's image.
fn handed_out(node: &Node) -> anyhow::Result<Boot> {
    let at = |name: &str| node.image().join(name);
    let command_line = std::fs::read_to_string(at("command-line")).context("the image's command line (make image)")?;
    Ok(Boot::Kernel { kernel: at("kernel"), initrd: Some(at("initramfs.pxe")), command_line: command_line.trim().to_owned() })
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_kernel_from_elsewhere_installs_the_machine() -> anyhow::Result<()> {
    let mut node = Node::with("bare", &[&install_to("{ serial: corten0 }", false)])?;
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
