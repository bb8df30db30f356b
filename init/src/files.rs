//! Files that must survive a power cut, and trees that are copied.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What was being done to which file.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}")]
pub struct Error {
    pub what: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Names what was done to `path` when it goes wrong.
pub fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { what, path: path.to_owned(), source }
}

/// Replaces a file so that a power cut leaves either the old or the new content: temporary file, fsync, rename, fsync of the directory.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    fs::create_dir_all(directory).map_err(at("make", directory))?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(at("create", &temporary))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at("write", &temporary))?;
    fs::rename(&temporary, path).map_err(at("replace", path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
}

/// Makes a directory, parents included, with this mode.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(at("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

/// Copies what is in one directory into another: files and directories with their modes, symbolic links as they are.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(at("read", from))? {
        let entry = entry.map_err(at("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source).map_err(at("look at", &source))?;
        if metadata.is_symlink() {
            let aim = fs::read_link(&source).map_err(at("read", &source))?;
            symlink(aim, &target).map_err(at("link", &target))?;
        } else if metadata.is_dir() {
            make_directory(&target, metadata.permissions().mode() & 0o7777)?;
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(at("copy to", &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_copied_with_modes_and_links() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        make_directory(&from.join("a/b"), 0o750).expect("make");
        replace(&from.join("a/b/file"), b"text", 0o640).expect("write");
        symlink("b/file", from.join("a/link")).expect("link");
        make_directory(&to, 0o755).expect("make");

        copy_tree(&from, &to).expect("copy");

        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert_eq!(fs::read(to.join("a/b/file")).expect("read"), b"text");
        assert_eq!((mode(&to.join("a/b")), mode(&to.join("a/b/file"))), (0o750, 0o640));
        assert_eq!(fs::read_link(to.join("a/link")).expect("link"), Path::new("b/file"));
    }

    #[test]
    fn error_names_the_file() {
        let error = replace(Path::new("/proc/nothing/file"), b"", 0o600).expect_err("cannot be made");
        assert!(error.to_string().contains("/proc/nothing"), "{error}");
    }
}
