//! Volumes that carry a config: found by their label, mounted read-only, read, and unmounted again.

mod directory;
mod label;
mod mount;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;

use label::FileSystem;
use mount::Mounted;

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Upper and lower case are the same: FAT knows upper case only.
    pub label: &'static str,
    pub files: &'static [&'static str],
}

/// A volume with what was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// `/dev/sr0`
    pub device: String,
    /// In the order in which they were wanted; `None` for one that is not there.
    pub files: Vec<Option<Vec<u8>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("listing block devices in {path}")]
    List { path: PathBuf, source: io::Error },
    #[error("mounting {device} ({file_system}) read-only")]
    Mount { device: String, file_system: &'static str, source: io::Error },
    #[error("reading {file} on {device}")]
    Read { device: String, file: &'static str, source: io::Error },
}

/// Where a volume is mounted while it is read.
const MOUNT_POINT: &str = "/run/corten/source";

/// Reads the files of the first volume with that label, by name of the device; `None` where there is none. Blocks for as long as the devices
/// take to answer.
pub fn read(root: &Root, wanted: &Wanted) -> Result<Option<Contents>, VolumeError> {
    let Some((name, file_system)) = find(root, wanted.label)? else { return Ok(None) };
    let (path, device) = (device(root, &name), format!("/dev/{name}"));
    let mounted = Mounted::new(&path, file_system, root.path(MOUNT_POINT));
    let mounted = mounted.map_err(|source| VolumeError::Mount { device: device.clone(), file_system: file_system.name(), source })?;
    let files = contents(mounted.path(), &device, wanted.files)?;
    Ok(Some(Contents { device, files }))
}

fn contents(directory: &Path, device: &str, files: &'static [&'static str]) -> Result<Vec<Option<Vec<u8>>>, VolumeError> {
    let read = |file: &&'static str| {
        let failed = |source| VolumeError::Read { device: device.to_owned(), file, source };
        directory::read(directory, file).map_err(failed)
    };
    files.iter().map(read).collect()
}

/// The first block device, whole or partition, with a file system of that label. One that cannot be read has none.
fn find(root: &Root, label: &str) -> Result<Option<(String, FileSystem)>, VolumeError> {
    let path = root.path("/sys/class/block");
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|source| VolumeError::List { path: path.clone(), source })?,
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| fs::read_to_string(path.join(name).join("size")).is_ok_and(|size| size.trim() != "0"));
    names.sort();
    let labelled = |name: String| {
        // sysfs writes a slash in a device's name as an exclamation mark.
        let name = name.replace('!', "/");
        let found = label::read(&mut File::open(device(root, &name)).ok()?).ok()??;
        found.labels.iter().any(|known| known.eq_ignore_ascii_case(label)).then_some((name, found.file_system))
    };
    Ok(names.into_iter().find_map(labelled))
}

fn device(root: &Root, name: &str) -> PathBuf {
    root.path("/dev").join(name)
}

#[cfg(test)]
mod tests;
