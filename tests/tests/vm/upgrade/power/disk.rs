//! What a machine's disk holds, looked at from outside: the boot loader's entries, and whether the images behind them are whole.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use machine::disk::{Partition, Slot, layout};
use testbed::nbd::NbdDisk;
use tests::program;

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A copy of the boot loader's partition, as it is now.
#[derive(Debug)]
pub struct Esp {
    folder: tempfile::TempDir,
}

impl Esp {
    pub fn of(disk: &NbdDisk) -> anyhow::Result<Esp> {
        let esp = Esp { folder: tempfile::tempdir()? };
        let (file, start, size) = (File::create(esp.path())?, start(disk, Partition::Esp)?, Partition::Esp.size_bytes());
        file.set_len(size)?;
        let (mut piece, zeros) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        for at in (0..size).step_by(PIECE_BYTES) {
            disk.read(start + at, &mut piece)?;
            if piece != zeros {
                file.write_all_at(&piece, at)?;
            }
        }
        Ok(esp)
    }

    /// That nothing is wrong with the file system.
    pub fn check(&self) -> anyhow::Result<()> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut check = Command::new("fsck.fat");
        program::printed(check.arg("-n").arg(self.path()).env("PATH", format!("{path}:/usr/sbin:/sbin"))).map(drop)
    }

    /// File names of the boot loader's entries.
    pub fn entries(&self) -> anyhow::Result<Vec<String>> {
        let printed = program::printed(Command::new("mdir").arg("-b").arg("-a").arg("-i").arg(self.path()).arg("::/loader/entries"))?;
        let names = printed.lines().filter_map(|line| line.rsplit_once('/')).map(|(_, name)| name.trim().to_owned());
        Ok(names.filter(|name| name.contains("corten-")).collect())
    }

    /// That the slot's UKI is this one.
    pub fn holds(&self, slot: Slot, uki: &Path) -> anyhow::Result<()> {
        let copy = self.folder.path().join("uki.efi");
        let name = format!("::/corten/{}.efi", slot.name());
        program::printed(Command::new("mcopy").args(["-n", "-o", "-i"]).arg(self.path()).arg(&name).arg(&copy))?;
        ensure!(fs::read(&copy)? == fs::read(uki)?, "{name} is not {}", uki.display());
        Ok(())
    }

    /// The copy, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("esp")
    }
}

/// That the slot's partitions hold this image, byte for byte.
pub fn holds(disk: &NbdDisk, slot: Slot, image: &Path) -> anyhow::Result<()> {
    for (partition, name) in [(slot.root(), "root.erofs"), (slot.verity(), "root.verity")] {
        let (start, path) = (start(disk, partition)?, image.join(name));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        let (mut there, mut expected) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        for at in (0..size).step_by(PIECE_BYTES) {
            let length = (size - at).min(PIECE_BYTES as u64) as usize;
            disk.read(start + at, &mut there[..length])?;
            file.read_exact_at(&mut expected[..length], at)?;
            ensure!(there[..length] == expected[..length], "{} is not {} (from byte {at} on)", partition.label(), path.display());
        }
    }
    Ok(())
}

pub fn start(disk: &NbdDisk, partition: Partition) -> anyhow::Result<u64> {
    // Those that every image has, which come first.
    let partitions: Vec<Partition> =
        Partition::ALL.into_iter().filter(|one| !matches!(one, Partition::Etcd | Partition::Ephemeral)).collect();
    let extents = layout(&partitions, disk.size_bytes(), disk.sector_bytes())?;
    extents.into_iter().find(|extent| extent.partition == partition).map(|extent| extent.start).context("a partition of the disk")
}
