//! Leaves the initramfs: moves the mounts, frees the initramfs' memory, makes the new root `/` and starts its init.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::mount_move;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the root has no {0}: it is not one that image-build made")]
    NotARoot(String),
    #[error("move the mount {0} into the root")]
    Move(PathBuf, #[source] io::Error),
    #[error("make {0} the root")]
    Root(PathBuf, #[source] io::Error),
    #[error("start {0}")]
    Start(String, #[source] io::Error),
}

/// Mounts of stage 1 that stage 2 goes on with.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Whether a root can be switched to: a verified one may still be empty. Asked while there is a way back to a restart with a shown reason.
pub fn check(new_root: &Path, next: &str) -> Result<(), Error> {
    let in_root = |path: &str| fs::metadata(new_root.join(path.trim_start_matches('/')));
    for path in MOVED {
        in_root(path).ok().filter(fs::Metadata::is_dir).ok_or_else(|| Error::NotARoot(format!("directory {path}")))?;
    }
    let runs = |file: &fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    in_root(next).ok().filter(runs).ok_or_else(|| Error::NotARoot(format!("program {next}")))?;
    Ok(())
}

/// `kept` is a directory of the initramfs whose files are still needed.
pub fn switch(new_root: &str, next: &str, kept: &Path) -> Result<Infallible, Error> {
    let new_root = Path::new(new_root);
    check(new_root, next)?;
    for mount in MOVED {
        let target = new_root.join(mount.trim_start_matches('/'));
        mount_move(mount, &target).map_err(|source| Error::Move(mount.into(), source.into()))?;
    }
    // The initramfs lives in memory for as long as it has files.
    if let Ok(device) = fs::metadata("/").map(|root| root.dev()) {
        remove_files(Path::new("/"), device, kept);
    }
    let failed = |source: rustix::io::Errno| Error::Root(new_root.to_owned(), source.into());
    rustix::process::chdir(new_root).map_err(failed)?;
    mount_move(".", "/").map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    Err(Error::Start(next.to_owned(), Command::new(next).exec()))
}

/// Removes what is on one file system; other file systems mounted in it are not entered, and what is kept is not either.
fn remove_files(directory: &Path, device: u64, kept: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device || path == kept => {}
            Ok(metadata) if metadata.is_dir() => {
                remove_files(&path, device, kept);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_without_init_or_mount_points_is_refused_with_what_is_missing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (root, next) = (directory.path(), "/usr/sbin/init");
        let missing = || check(root, next).expect_err("not a root").to_string();
        assert!(missing().contains("directory /dev"), "{}", missing());
        for path in MOVED {
            fs::create_dir(root.join(path.trim_start_matches('/'))).expect("make");
        }
        assert!(missing().contains("program /usr/sbin/init"), "{}", missing());
        fs::create_dir_all(root.join("usr/sbin")).expect("make");
        fs::write(root.join("usr/sbin/init"), "").expect("write");
        assert!(missing().contains("program /usr/sbin/init"), "a file that cannot be run: {}", missing());
        fs::set_permissions(root.join("usr/sbin/init"), fs::Permissions::from_mode(0o755)).expect("mode");
        check(root, next).expect("a root");
    }

    #[test]
    fn initramfs_is_emptied_but_for_what_is_kept() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for path in ["init", "usr/lib/modules.list", "corten/root.erofs", "corten/deep/er"] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("make");
            fs::write(path, "x").expect("write");
        }
        let device = fs::metadata(directory.path()).expect("there").dev();
        remove_files(directory.path(), device, &directory.path().join("corten"));
        let left: Vec<_> = fs::read_dir(directory.path()).expect("read").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(left, ["corten"]);
        assert!(directory.path().join("corten/root.erofs").exists() && directory.path().join("corten/deep/er").exists());
    }
}
