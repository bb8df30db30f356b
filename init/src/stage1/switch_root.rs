//! Leaves the initramfs: moves the mounts, frees the initramfs' memory, makes the new root `/` and starts its init.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::mount_move;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("move the mount {0} into the root")]
    Move(PathBuf, #[source] io::Error),
    #[error("make {0} the root")]
    Root(PathBuf, #[source] io::Error),
    #[error("start {0}")]
    Start(String, #[source] io::Error),
}

/// Mounts of stage 1 that stage 2 goes on with.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

pub fn switch(new_root: &str, next: &str) -> Result<Infallible, Error> {
    let new_root = Path::new(new_root);
    for mount in MOVED {
        let target = new_root.join(mount.trim_start_matches('/'));
        mount_move(mount, &target).map_err(|source| Error::Move(mount.into(), source.into()))?;
    }
    // The initramfs lives in memory for as long as it has files.
    if let Ok(device) = fs::metadata("/").map(|root| root.dev()) {
        remove_files(Path::new("/"), device);
    }
    let failed = |source: rustix::io::Errno| Error::Root(new_root.to_owned(), source.into());
    rustix::process::chdir(new_root).map_err(failed)?;
    mount_move(".", "/").map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    Err(Error::Start(next.to_owned(), Command::new(next).exec()))
}

/// Removes what is on one file system; other file systems mounted in it are not entered.
fn remove_files(directory: &Path, device: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                remove_files(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
