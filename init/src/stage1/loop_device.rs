//! Makes a file readable as a block device, which is what the device mapper wants (loop(4)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use machine::Root;

use crate::{block, sys};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("get a free loop device (is its module loaded?)")]
    Free(#[source] io::Error),
    #[error("open {0}")]
    Open(PathBuf, #[source] io::Error),
    #[error("attach {file} to /dev/loop{number}")]
    Attach {
        file: PathBuf,
        number: u32,
        #[source]
        source: io::Error,
    },
    #[error("read the number of /dev/loop{0}")]
    Number(u32, #[source] io::Error),
}

/// A file attached read-only. The kernel detaches it when nobody has the device open any more: it is kept open by this value until the
/// device mapper has it.
#[derive(Debug)]
pub struct Loop {
    /// `major:minor`
    pub number: String,
    /// Open for its effect.
    _device: File,
}

pub fn attach(root: &Root, file: &Path) -> Result<Loop, Error> {
    let backing = File::open(file).map_err(|source| Error::Open(file.to_owned(), source))?;
    let control = OpenOptions::new().read(true).write(true).open(root.path("/dev/loop-control")).map_err(Error::Free)?;
    let number = sys::free_loop_device(control.as_fd()).map_err(Error::Free)?;
    let path = root.path(&format!("/dev/loop{number}"));
    let device = OpenOptions::new().read(true).write(true).open(&path).map_err(|source| Error::Open(path, source))?;
    sys::attach_loop(device.as_fd(), backing.as_fd()).map_err(|source| Error::Attach { file: file.to_owned(), number, source })?;
    let numbers = block::number(root, &format!("loop{number}")).map_err(|source| Error::Number(number, source))?;
    Ok(Loop { number: numbers, _device: device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root and a free loop device; a boot from the ISO image needs it as well"]
    fn file_is_read_through_the_device_until_it_is_dropped() {
        let root = Root::new("/");
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), [7; 8192]).expect("write");
        let attached = attach(&root, file.path()).expect("attaches");
        let minor = attached.number.strip_prefix("7:").expect("a loop device").to_owned();
        let content = std::fs::read(format!("/dev/loop{minor}")).expect("reads");
        let backing = || std::fs::read_to_string(format!("/sys/class/block/loop{minor}/loop/backing_file")).ok();
        let read_only = std::fs::read_to_string(format!("/sys/class/block/loop{minor}/ro")).expect("sysfs");
        assert_eq!((content, read_only.trim()), (vec![7; 8192], "1"));
        assert!(backing().is_some_and(|path| path.trim() == file.path().display().to_string()));
        drop(attached);
        // The kernel detaches it in its own time.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while backing().is_some() {
            assert!(std::time::Instant::now() < deadline, "still attached");
            std::thread::yield_now();
        }
    }
}
