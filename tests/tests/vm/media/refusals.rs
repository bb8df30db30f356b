//! Disks that an installation leaves alone, and what it says of them; and one that it takes once it may.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use testbed::nbd::NbdDisk;
use testbed::{BootOrder, Disk, DiskFormat, Drive};
use tests::node::{Node, Up};

use super::install::{DISK_BYTES, boot_fact, install, install_to, iso, maintenance, with_medium};

/// Less than the partitions need.
const SMALL: u64 = 2 << 30;
const BLOCK_BYTES: usize = 1 << 20;

/// A file for a disk, and a copy of it as it was.
struct Kept {
    file: PathBuf,
    before: PathBuf,
}

impl Kept {
    fn new(node: &Node, name: &str, make: impl Fn(&File) -> anyhow::Result<()>) -> anyhow::Result<Kept> {
        let kept = Kept { file: node.file(name), before: node.file(&format!("{name}.before")) };
        [&kept.file, &kept.before].iter().try_for_each(|path| make(&File::create(path)?))?;
        Ok(kept)
    }

    fn drive(&self, serial: &str) -> Drive {
        Drive::new(Disk::File { path: self.file.clone(), format: DiskFormat::Raw }).serial(serial)
    }

    /// That no byte has changed.
    fn is_as_it_was(&self) -> anyhow::Result<()> {
        let (mut now, mut before) = (File::open(&self.file)?, File::open(&self.before)?);
        let length = before.metadata()?.len();
        ensure!(now.metadata()?.len() == length, "{} has another length", self.file.display());
        let (mut a, mut b) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
        for block in 0..length / BLOCK_BYTES as u64 {
            now.read_exact(&mut a)?;
            before.read_exact(&mut b)?;
            ensure!(a == b, "{}: MiB {block} changed", self.file.display());
        }
        Ok(())
    }
}

/// One partition in an old table (MBR) with something in it, as another system left it.
fn foreign(disk: &File) -> anyhow::Result<()> {
    disk.set_len(DISK_BYTES)?;
    // Status, first sector as the BIOS counts, type 7 (NTFS), last sector; first sector 2048, 204800 sectors.
    let mut entry = vec![0, 0xfe, 0xff, 0xff, 7, 0xfe, 0xff, 0xff];
    entry.extend([2048_u32.to_le_bytes(), 204_800_u32.to_le_bytes()].concat());
    disk.write_all_at(&entry, 446)?;
    disk.write_all_at(&[0x55, 0xaa], 510)?;
    for place in [2048 * 512, DISK_BYTES / 2, DISK_BYTES - 512] {
        disk.write_all_at(b"somebody's data", place)?;
    }
    Ok(())
}

/// Asks for an installation to the disk that this selects, which must be refused for this reason: to the caller, among the installations, and
/// on the console.
fn refused(node: &Node, up: &Up, selector: &str, says: &[&str]) -> anyhow::Result<()> {
    let patch = install_to(selector, false);
    let answer = match node.ask(up, &["apply", "-f", &node.config(), "--patch", &patch]) {
        Ok(printed) => anyhow::bail!("{selector}: not refused: {printed}"),
        Err(error) => format!("{error:#}"),
    };
    println!("  {selector}: {}", answer.rsplit("exit status: 1: ").next().unwrap_or_default().trim());
    let shown = node.json(up, &["get", "installations", "refused", "--timeout", "20s"])?;
    ensure!(shown["status"]["phase"] == "refused", "{selector}: {shown}");
    let message = shown["status"]["message"].as_str().with_context(|| shown.to_string())?;
    for part in says {
        ensure!(answer.contains(part), "{selector}: no {part:?} in the answer {answer}");
        ensure!(message.contains(part), "{selector}: no {part:?} in the installation {shown}");
    }
    let line = format!("not installed: {message}");
    ensure!(node.machine()?.console().line_with(&line)?.is_some(), "{selector}: {line:?} is not on the console");
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_disk_is_left_alone_until_it_may_be_wiped() -> anyhow::Result<()> {
    let mut node = with_medium(Drive::optical(iso()), &[&install_to("{ serial: foreign }", true)])?;
    let small = Kept::new(&node, "small.raw", |disk| Ok(disk.set_len(SMALL)?))?;
    let other = Kept::new(&node, "foreign.raw", foreign)?;
    node.hardware.drives.extend([small.drive("small"), other.drive("foreign")]);
    // The medium stays in, and nobody but the installer says what is booted afterwards.
    node.hardware.boot_order = BootOrder::Variables;
    let empty = NbdDisk::empty(DISK_BYTES)?;
    node.boot(&empty)?;
    let up = maintenance(&node)?;
    println!("  {}", node.ask(&up, &["get", "disks"])?);
    refused(&node, &up, "{ serial: small }", &["machine.install.disk", "it has 2048 MiB; the partitions need"])?;
    refused(&node, &up, "{ serial: nowhere }", &["no disk has serial \"nowhere\"", "\"corten0\"", "\"small\"", "\"foreign\""])?;
    refused(&node, &up, "{ serial: foreign }", &["machine.install.wipe", "holds partitions partition 1"])?;
    small.is_as_it_was()?;
    other.is_as_it_was()?;
    ensure!(empty.writes() == 0, "{} writes to a disk that nobody named", empty.writes());

    install(&node, &up)?;
    let disk = boot_fact(&node, &Up::Configured, "disk")?;
    let disks = node.resources("disks")?;
    let own = disks.iter().find(|seen| seen["status"]["path"] == disk.as_str()).context("the machine's disk")?;
    ensure!(own["status"]["serial"] == "foreign", "installed on {own}");
    small.is_as_it_was()?;
    ensure!(empty.writes() == 0, "{} writes to a disk that nobody named", empty.writes());
    Ok(())
}
