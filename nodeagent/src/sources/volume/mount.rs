//! Mounts a stranger's volume: read-only, nothing on it counts as a program, a device or a privilege.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::label::FileSystem;

/// A mounted volume; it is unmounted when this goes.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    pub fn new(device: &Path, file_system: FileSystem, path: PathBuf) -> io::Result<Mounted> {
        fs::create_dir_all(&path)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(device), &path, Some(file_system.name()), flags, None::<&str>)?;
        Ok(Mounted { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.path, MntFlags::MNT_DETACH) {
            tracing::warn!("unmounting {}: {error}", self.path.display());
        }
    }
}
