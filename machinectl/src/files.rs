//! The user's files: read with clear errors, written whole or not at all.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Permissions of files that hold keys.
pub const SECRET: u32 = 0o600;

/// A file's text; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::of("standard input", &error))?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(|error| Failure::of(path.display(), &error))
}

/// Replaces the file in one step, so that a reader sees the old or the new one and a crash leaves one of them. Makes its directory.
pub fn write(path: &Path, contents: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of(path.display(), &error);
    // A link stays one: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    fs::create_dir_all(&directory).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(&directory).map_err(failed)?;
    file.write_all(contents.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Refuses to go on if one of the files exists.
pub fn refuse_existing<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Failure> {
    match paths.into_iter().find(|path| path.exists()) {
        Some(path) => Err(Failure::new(path.display(), "exists already; keys that are replaced are lost")
            .remedy("choose another directory, or add --force")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_links_are_followed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (file, link) = (directory.path().join("new/file"), directory.path().join("link"));
        write(&file, "one", SECRET).expect("write");
        std::os::unix::fs::symlink(&file, &link).expect("link");
        write(&link, "two", SECRET).expect("write");
        assert_eq!(fs::read_to_string(&file).expect("read"), "two");
        assert_eq!(fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, SECRET);
        assert!(fs::symlink_metadata(&link).expect("metadata").is_symlink());
        assert!(refuse_existing([&file]).is_err() && refuse_existing([&directory.path().join("none")]).is_ok());
    }
}
