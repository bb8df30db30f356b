//! A disk that gives back something else than was written to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, ensure};
use testbed::nbd::NbdDisk;
use tests::images::Parts;
use tests::node::{Node, Up};
use tests::program;

/// A file of the root that no boot reads.
const VICTIM: &str = "/usr/share/ca-certificates/ca-certificates.crt";
const MIB: u64 = 1 << 20;

/// A flipped byte in the root slot is an I/O error for who reads it, never wrong contents; all else goes on.
pub fn a_flipped_byte_is_an_error() -> anyhow::Result<()> {
    let mut node = Node::new("bare")?;
    let disk = node.disk()?;
    flip(&disk, slot(&node.image())? + Parts::of(&node.image())?.place_of(VICTIM)?, &node.image())?;
    node.boot(&disk)?;
    let up = node.up()?;
    node.apply(&up)?;
    let ask = |arguments: &[&str]| node.ask(&Up::Configured, arguments);
    ensure!(!ask(&["files", "cat", "/usr/share/corten/image.json"])?.is_empty(), "nothing else can be read");
    match ask(&["files", "cat", VICTIM]) {
        Ok(contents) => bail!("{} bytes of the file were read", contents.len()),
        Err(error) => ensure!(format!("{error:#}").contains("Input/output error"), "{error:#}"),
    }
    let log = ask(&["dmesg"])?;
    ensure!(log.contains("is corrupted"), "the kernel's log does not tell of it");
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=faults"]
fn a_flipped_byte_in_the_root_is_an_io_error() -> anyhow::Result<()> {
    a_flipped_byte_is_an_error()
}

/// Where slot A begins on the disk: partitions begin at whole MiB.
fn slot(image: &Path) -> anyhow::Result<u64> {
    let (mut root, mut found) = (vec![0; 8192], vec![0; 8192]);
    File::open(image.join("root.erofs"))?.read_exact_at(&mut root, 0)?;
    let disk = File::open(image.join("disk.raw"))?;
    for offset in (0..disk.metadata()?.len() / MIB).map(|number| number * MIB) {
        disk.read_exact_at(&mut found, offset)?;
        if found == root {
            return Ok(offset);
        }
    }
    bail!("{}: no partition holds root.erofs", image.display())
}

/// Changes one byte of the disk.
fn flip(disk: &NbdDisk, offset: u64, image: &Path) -> anyhow::Result<()> {
    let mut byte = [0];
    File::open(image.join("disk.raw"))?.read_exact_at(&mut byte, offset)?;
    let write = format!("write -P {} {offset} 1", byte[0] ^ 0xff);
    let url = format!("nbd+unix:///?socket={}", disk.socket().display());
    program::printed(Command::new("qemu-io").args(["-f", "raw", "-c", &write]).arg(url)).map(drop)
}
