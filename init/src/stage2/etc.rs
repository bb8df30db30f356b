//! /etc and the links of /dev and /var: what programs expect to find and no package makes in an immutable root.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use machine::Root;

use crate::files::{self, Error};

/// Links that POSIX programs and container runtimes expect.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Directories of /var with their modes.
const VAR: [(&str, u32); 5] =
    [("/var/lib", 0o755), ("/var/log", 0o755), ("/var/cache", 0o755), ("/var/spool", 0o755), ("/var/tmp", 0o1777)];

/// Copies the image's templates of /etc into the tmpfs on it.
pub fn fill(root: &Root) -> Result<(), Error> {
    files::copy_tree(&root.etc_template(), &root.etc())
}

pub fn link_devices(root: &Root) -> Result<(), Error> {
    DEVICE_LINKS.iter().try_for_each(|(link, aim)| link_once(&root.path(link), aim))
}

/// Makes what /var holds on every machine: in its tmpfs, and on EPHEMERAL after that is open.
pub fn fill_var(root: &Root) -> Result<(), Error> {
    VAR.iter().try_for_each(|(path, mode)| files::make_directory(&root.path(path), *mode))?;
    link_once(&root.path("/var/run"), "/run")
}

fn link_once(link: &Path, aim: &str) -> Result<(), Error> {
    match symlink(aim, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(files::at("link", link)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn var_is_filled_twice_without_complaint() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        std::fs::create_dir(root.path("/var")).expect("make");
        fill_var(&root).expect("first");
        fill_var(&root).expect("again");
        assert_eq!(std::fs::read_link(root.path("/var/run")).expect("link"), Path::new("/run"));
    }
}
