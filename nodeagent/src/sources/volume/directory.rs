//! Files of a mounted volume. What lies there is a stranger's: a link must not lead out of the volume, nor a file be anything but one.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::config::MAX_DOCUMENT_BYTES;

/// The file's contents, at most one byte more than a config may have; `None` where it is not there.
pub fn read(directory: &Path, file: &str) -> io::Result<Option<Vec<u8>>> {
    let directory = File::open(directory)?;
    // Not blocking: a FIFO would wait for a writer.
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).resolve(ResolveFlag::RESOLVE_BENEATH);
    let opened = match openat2(&directory, file, how) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(Errno::EXDEV) => return Err(io::Error::new(ErrorKind::InvalidInput, "a link that leads out of the volume")),
        opened => File::from(opened?),
    };
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut contents = Vec::new();
    opened.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut contents)?;
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn files_are_read_bounded_and_links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let volume = outside.path().join("volume");
        fs::create_dir_all(volume.join("openstack/2018-08-27")).unwrap();
        fs::write(volume.join("openstack/2018-08-27/user_data"), "text").unwrap();
        symlink("2018-08-27", volume.join("openstack/latest")).unwrap();
        assert_eq!(read(&volume, "openstack/latest/user_data").unwrap().unwrap(), b"text");
        assert_eq!(read(&volume, "user-data").unwrap(), None);
        assert_eq!(read(&volume, "openstack/latest/user_data/x").unwrap(), None);

        fs::write(volume.join("large"), vec![b'a'; MAX_DOCUMENT_BYTES + 100]).unwrap();
        assert_eq!(read(&volume, "large").unwrap().unwrap().len(), MAX_DOCUMENT_BYTES + 1);

        for (link, to) in [("up", "../secret"), ("absolute", "/etc/hostname")] {
            symlink(to, volume.join(link)).unwrap();
            assert!(read(&volume, link).unwrap_err().to_string().contains("out of the volume"), "{link}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("user-data")).unwrap();
        nix::unistd::mkfifo(&volume.path().join("meta-data"), Mode::S_IRUSR).unwrap();
        for file in ["user-data", "meta-data"] {
            assert!(read(volume.path(), file).unwrap_err().to_string().contains("regular"), "{file}");
        }
    }
}
