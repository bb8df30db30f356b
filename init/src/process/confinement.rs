//! The read-only view of a service: a mount namespace of its own in which only its directories can be written to, and in which other
//! services' volumes are empty.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use machine::Root;
use machine::disk::Volume;
use machine::service::{Filesystem, ServiceSpec};
use rustix::mount::{MountFlags, mount_bind_recursive};

use crate::mount;
use crate::sys::{self, Access};

/// What is done in the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    writable: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
}

/// Makes the writable directories and says what the child must do; `None` for a service that lives in init's own view.
pub fn plan(root: &Root, spec: &ServiceSpec) -> io::Result<Option<Confinement>> {
    let Filesystem::ReadOnly { writable } = &spec.filesystem else { return Ok(None) };
    for directory in writable {
        own(directory, spec.account.id())?;
    }
    let hidden = [Volume::State, Volume::Etcd].map(|volume| root.path(volume.mount_point()));
    let needed = |hidden: &Path| writable.iter().any(|directory| directory.starts_with(hidden));
    let hidden = hidden.into_iter().filter(|path| path.is_dir() && !needed(path)).collect();
    Ok(Some(Confinement { writable: writable.clone(), hidden }))
}

/// Makes a directory if it is missing, and gives it to a user.
fn own(directory: &Path, user: u32) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::metadata(directory)?.uid() == user { Ok(()) } else { chown(directory, Some(user), Some(user)) }
}

impl Confinement {
    /// Leaves init's view. In the child only.
    pub fn enter(&self) -> io::Result<()> {
        sys::unshare_mounts()?;
        let top = Path::new("/");
        // An unmount at shutdown still arrives here, so that this view keeps no volume busy.
        mount::follow(top).map_err(io::Error::other)?;
        for directory in &self.writable {
            // A mount of its own can be written to though the one below it cannot.
            mount_bind_recursive(directory, directory)?;
        }
        for path in &self.hidden {
            let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
            mount::file_system("tmpfs", Path::new("tmpfs"), path, flags, "size=0,mode=0755").map_err(io::Error::other)?;
        }
        sys::set_mount_access(top, Access::ReadOnly)?;
        for directory in &self.writable {
            sys::set_mount_access(directory, Access::ReadWrite)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_and_given_to_the_user() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let wanted = directory.path().join("a/b");
        let user = rustix::process::geteuid().as_raw();
        own(&wanted, user).expect("made");
        own(&wanted, user).expect("there already");
        let metadata = fs::metadata(&wanted).expect("there");
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (user, 0o700));
    }
}
