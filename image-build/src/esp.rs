//! The EFI system partition: FAT32 with systemd-boot, the first slot's UKI, and the entry that starts it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
pub use machine::boot::{LOADER_CONFIG, first_entry};

use crate::tools::{self, Tool};

/// Files by path below the partition, in the order in which they are written.
pub type Files<'a> = [(&'a str, &'a [u8])];

/// Makes the file system in a new file. `scratch` is a folder for what is copied into it.
pub fn make(image: &Path, size: u64, serial: u32, date: u64, files: &Files<'_>, scratch: &Path) -> Result<()> {
    let making = || format!("making {}", image.display());
    File::create_new(image).and_then(|file| file.set_len(size)).with_context(making)?;
    let mut mkfs = command(tools::MKFS_FAT, date)?;
    mkfs.args(["-F", "32", "-i", &format!("{serial:08x}")]).arg(image);
    tools::run(&mut mkfs).with_context(making)?;
    // mkfs.fat would date the label with the current time.
    let mut mlabel = command(tools::MLABEL, date)?;
    tools::run(mlabel.arg("-i").arg(image).arg("::ESP")).with_context(making)?;

    let directories: BTreeSet<&str> = files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(end, _)| &path[..end])).collect();
    let mut mmd = command(tools::MMD, date)?;
    mmd.arg("-i").arg(image).args(directories.iter().map(|directory| format!("::/{directory}")));
    tools::run(&mut mmd).with_context(making)?;

    let copy = scratch.join("esp-file");
    for (path, bytes) in files {
        fs::write(&copy, bytes).with_context(|| format!("writing {}", copy.display()))?;
        let mut mcopy = command(tools::MCOPY, date)?;
        mcopy.args([OsStr::new("-i"), image.as_os_str(), copy.as_os_str(), format!("::/{path}").as_ref()]);
        tools::run(&mut mcopy).with_context(|| format!("ESP: writing {path}"))?;
    }
    fs::remove_file(&copy).with_context(|| format!("removing {}", copy.display()))
}

/// mtools write the time of SOURCE_DATE_EPOCH, in the local time zone, and read a configuration of the user's.
fn command(tool: Tool, date: u64) -> Result<Command> {
    let mut command = tool.command()?;
    command.env("SOURCE_DATE_EPOCH", date.to_string()).env("TZ", "UTC").env("MTOOLSRC", "/dev/null");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSCK: Tool = Tool { program: "fsck.fat", package: "dosfstools" };
    const MTYPE: Tool = Tool { program: "mtype", package: "mtools" };

    #[test]
    fn holds_the_files_without_a_fault_and_is_the_same_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let entry = first_entry("1.2.3", "worker");
        let files: &Files<'_> = &[("EFI/BOOT/BOOTX64.EFI", b"loader"), ("loader/entries/corten-a.conf", entry.as_bytes())];
        let images = ["first", "second"].map(|name| directory.path().join(name));
        for image in &images {
            make(image, 64 << 20, 0x1234_5678, 1_700_000_000, files, directory.path()).unwrap();
        }
        let bytes = fs::read(&images[0]).unwrap();
        assert!(bytes == fs::read(&images[1]).unwrap(), "two runs differ");
        assert!(
            dates(&bytes).iter().all(|date| *date == 0x576e),
            "other dates than 2023-11-14 in the root directory: {:x?}",
            dates(&bytes)
        );
        FSCK.run([OsStr::new("-n"), images[0].as_os_str()]).unwrap();
        let text = MTYPE.run([OsStr::new("-i"), images[0].as_os_str(), "::/loader/entries/corten-a.conf".as_ref()]).unwrap();
        assert_eq!(text, "title Corten 1.2.3 (worker)\nversion 1\nsort-key corten\nefi /corten/a.efi\n");
    }

    /// Dates of the last change in the root directory: entries of 32 bytes in the first cluster, the date at 24. Two runs in the same two
    /// seconds would agree on the current time as well.
    fn dates(image: &[u8]) -> Vec<u16> {
        let field = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
        let (sector, reserved, fats, fat_size) = (field(11), field(14), usize::from(image[16]), field(36));
        let root = (reserved + fats * fat_size) * sector;
        let entries = image[root..root + 512].chunks(32).take_while(|entry| entry[0] != 0);
        // A long name's entries have no date.
        entries.filter(|entry| entry[11] != 0x0f).map(|entry| u16::from_le_bytes([entry[24], entry[25]])).collect()
    }
}
