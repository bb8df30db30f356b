//! The EFI system partition of a new disk: its file system, and all files but the entry, without which nothing of it is booted.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use machine::Root;
use machine::boot::{ENTRIES, FALLBACK_LOADER, LOADER, LOADER_CONFIG, LOADER_CONFIG_PATH, image_path};
use machine::disk::{Partition, Slot};

use super::copy::{Target, copy};
use super::medium::Medium;

const MAKE: &str = "/usr/sbin/mkfs.fat";

/// FAT32, whatever the size: firmware need not read anything else of a fixed disk (UEFI 2.10, 13.3.1).
fn arguments(sector_bytes: u64) -> Vec<String> {
    let label = Partition::Esp.label();
    ["-F", "32", "-n", label, "-S"].map(str::to_owned).into_iter().chain([sector_bytes.to_string()]).collect()
}

/// Makes the file system. A directory in the place of a partition has one.
pub fn make(root: &Root, device: &Path, sector_bytes: u64) -> anyhow::Result<()> {
    if device.is_dir() {
        return Ok(());
    }
    let making = || format!("making a file system on {}", device.display());
    let output = Command::new(root.path(MAKE)).args(arguments(sector_bytes)).arg(device).output().with_context(making)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {MAKE}: {} {}", making(), output.status, said.trim());
    File::open(device).and_then(|device| device.sync_all()).with_context(making)
}

/// Writes the files into the mounted file system and reads them back. Durable when it returns.
pub fn fill(esp: &Path, medium: &Medium, progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    let image = image_path(Slot::A);
    for (from, to) in [(&medium.loader, FALLBACK_LOADER), (&medium.loader, LOADER), (&medium.uki, image.as_str())] {
        let to = esp.join(to);
        make_directory(to.parent().unwrap_or(esp))?;
        copy(from, &to, Target::File, progress)?;
    }
    make_directory(&esp.join(ENTRIES))?;
    let config = esp.join(LOADER_CONFIG_PATH);
    let written = File::create(&config).and_then(|mut file| file.write_all(LOADER_CONFIG.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("writing {}", config.display()))?;
    sync_directories(esp)
}

fn make_directory(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))
}

/// The names of all files are on the disk when it returns.
fn sync_directories(directory: &Path) -> anyhow::Result<()> {
    let syncing = || format!("syncing {}", directory.display());
    for entry in fs::read_dir(directory).with_context(syncing)? {
        let path = entry.with_context(syncing)?.path();
        if path.is_dir() {
            sync_directories(&path)?;
        }
    }
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(syncing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the host's mkfs.fat, from the same package as the image's.
    #[test]
    fn file_system_is_fat32_with_the_disk_s_sectors() {
        for sector in [512_u64, 4096] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(Partition::Esp.size_bytes()).unwrap();
            let output = Command::new("mkfs.fat").args(arguments(sector)).arg(file.path()).output().expect("dosfstools");
            assert!(output.status.success(), "{output:?}");
            let mut boot = [0; 512];
            std::os::unix::fs::FileExt::read_exact_at(file.as_file(), &mut boot, 0).unwrap();
            assert_eq!(u64::from(u16::from_le_bytes([boot[11], boot[12]])), sector);
            assert_eq!((&boot[71..82], &boot[82..90]), (b"ESP        ".as_slice(), b"FAT32   ".as_slice()));
            let check = Command::new("fsck.fat").arg("-n").arg(file.path()).output().expect("dosfstools");
            assert!(check.status.success(), "{check:?}");
        }
    }

    #[test]
    fn tool_that_fails_is_named_with_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let tool = root.path(MAKE);
        fs::create_dir_all(tool.parent().unwrap()).unwrap();
        fs::write(&tool, "#!/bin/sh\necho no room >&2\nexit 1\n").unwrap();
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let device = directory.path().join("device");
        fs::write(&device, "").unwrap();
        let error = make(&root, &device, 512).unwrap_err().to_string();
        assert!(error.contains("/usr/sbin/mkfs.fat: exit status: 1 no room"), "{error}");
    }
}
