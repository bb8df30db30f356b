//! What a machine's disk holds, looked at from outside: the boot loader's entries, and whether the images behind them are whole.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use machine::disk::{Partition, Slot, layout};
use testbed::nbd::NbdDisk;
use tests::program;

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// File names of the boot loader's directory of entries.
pub fn entries(disk: &NbdDisk, folder: &Path) -> anyhow::Result<Vec<String>> {
    let esp = esp(disk, folder)?;
    let printed = program::printed(Command::new("mdir").arg("-b").arg("-a").arg("-i").arg(&esp).arg("::/loader/entries"))?;
    let names = printed.lines().filter_map(|line| line.rsplit_once('/')).map(|(_, name)| name.trim().to_owned());
    Ok(names.filter(|name| name.contains("corten-")).collect())
}

/// That the slot holds this image, byte for byte: root, hash tree and UKI.
pub fn holds(disk: &NbdDisk, slot: Slot, image: &Path, folder: &Path) -> anyhow::Result<()> {
    for (partition, name) in [(slot.root(), "root.erofs"), (slot.verity(), "root.verity")] {
        let (start, path) = (start(disk, partition)?, image.join(name));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        let (mut there, mut expected) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        for at in (0..size).step_by(PIECE_BYTES) {
            let length = (size - at).min(PIECE_BYTES as u64) as usize;
            // A disk is read in sectors, a file need not be a multiple of them.
            disk.read(start + at, &mut there[..length])?;
            file.read_exact_at(&mut expected[..length], at)?;
            ensure!(there[..length] == expected[..length], "{} is not {} (from byte {at} on)", partition.label(), path.display());
        }
    }
    let (esp, copy) = (esp(disk, folder)?, folder.join("uki.efi"));
    let name = format!("::/corten/{}.efi", slot.name());
    program::printed(Command::new("mcopy").args(["-n", "-o", "-i"]).arg(&esp).arg(&name).arg(&copy))?;
    ensure!(fs::read(&copy)? == fs::read(image.join("uki.efi"))?, "{name} is not the UKI of {}", image.display());
    Ok(())
}

/// That nothing is wrong with the boot loader's file system.
pub fn check_esp(disk: &NbdDisk, folder: &Path) -> anyhow::Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut check = Command::new("fsck.fat");
    program::printed(check.arg("-n").arg(esp(disk, folder)?).env("PATH", format!("{path}:/usr/sbin:/sbin"))).map(drop)
}

/// A copy of the boot loader's partition.
pub fn esp(disk: &NbdDisk, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = folder.join("esp");
    let (file, start, size) = (File::create(&path)?, start(disk, Partition::Esp)?, Partition::Esp.size_bytes());
    file.set_len(size)?;
    let mut piece = vec![0; PIECE_BYTES];
    for at in (0..size).step_by(PIECE_BYTES) {
        disk.read(start + at, &mut piece)?;
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(&piece, at)?;
        }
    }
    Ok(path)
}

pub fn start(disk: &NbdDisk, partition: Partition) -> anyhow::Result<u64> {
    let extents = layout(&Partition::ALL, disk.size_bytes(), disk.sector_bytes())?;
    extents.into_iter().find(|extent| extent.partition == partition).map(|extent| extent.start).context("a partition of the disk")
}
