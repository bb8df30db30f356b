//! Writes files whole: a reader sees the old contents or the new ones, also after a power cut.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use machine::file::File;
use nix::unistd::{Gid, Uid, fchown, geteuid};

/// Whether the file is there with these contents, this mode and this owner.
pub fn matches(file: &File) -> bool {
    let Ok(metadata) = fs::symlink_metadata(&file.path) else { return false };
    metadata.is_file()
        && metadata.mode() & 0o7777 == file.mode
        && owned(&metadata, file.account.id())
        && metadata.len() == file.contents.len() as u64
        && fs::read(&file.path).is_ok_and(|contents| contents == file.contents)
}

/// Writes the file unless it is as wanted already; says whether it wrote.
pub fn write_if_changed(file: &File) -> anyhow::Result<bool> {
    if matches(file) {
        return Ok(false);
    }
    replace(&file.path, &file.contents, file.mode, file.account.id())?;
    Ok(true)
}

/// Writes a file of root's.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    replace(path, contents, mode, 0)
}

/// Removes a file; one that is not there is removed already.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", path.display())),
        _ => Ok(()),
    }
}

fn replace(path: &Path, contents: &[u8], mode: u32, owner: u32) -> anyhow::Result<()> {
    let directory = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("making directory {}", directory.display()))?;
    let name = path.file_name().with_context(|| format!("{} has no file name", path.display()))?;
    // A dot in front: programs that read whole directories (kubelet, CNI) leave such files alone.
    let temporary = directory.join(format!(".{}.new", name.to_string_lossy()));
    let written = fill(&temporary, contents, mode, owner).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of the attempt is of no use; the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("writing {}", path.display()))?;
    // The rename itself is on the disk only when the directory is.
    fs::File::open(directory).and_then(|directory| directory.sync_all()).with_context(|| format!("syncing {}", directory.display()))
}

fn fill(path: &Path, contents: &[u8], mode: u32, owner: u32) -> io::Result<()> {
    // A left-over may have another owner or mode, and a secret must never be readable by others, not even while it is written.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    if !owned(&file.metadata()?, owner) {
        fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Only root can give files away; an agent under another user (a developer's test) owns all it writes.
fn owned(metadata: &fs::Metadata, owner: u32) -> bool {
    !geteuid().is_root() || (metadata.uid() == owner && metadata.gid() == owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::account::Account;

    fn file(directory: &Path) -> File {
        File { path: directory.join("sub/file"), mode: 0o640, account: Account::Root, contents: b"text".to_vec() }
    }

    #[test]
    fn writes_once_and_again_only_when_something_differs() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        assert!(!matches(&file));
        assert!(write_if_changed(&file).unwrap());
        assert!(matches(&file));
        assert!(!write_if_changed(&file).unwrap());
        assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o7777, 0o640);

        fs::set_permissions(&file.path, Permissions::from_mode(0o644)).unwrap();
        assert!(write_if_changed(&file).unwrap(), "mode");
        fs::write(&file.path, "texT").unwrap();
        assert!(write_if_changed(&file).unwrap(), "contents");
        assert_eq!(fs::read_dir(file.path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn replaces_a_left_over_and_removes_twice() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/.file.new"), "half").unwrap();
        assert!(write_if_changed(&file).unwrap());
        assert_eq!(fs::read(&file.path).unwrap(), b"text");
        remove(&file.path).unwrap();
        remove(&file.path).unwrap();
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sub"), "a file where the directory should be").unwrap();
        let error = write_if_changed(&file(directory.path())).unwrap_err();
        assert!(error.to_string().contains("sub"), "{error:#}");
    }
}
