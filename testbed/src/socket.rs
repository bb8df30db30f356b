//! Unix sockets in directories whose paths may be longer than the 107 bytes that an address can hold.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

/// Connects to `<directory>/<name>` through the directory's descriptor.
pub fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let handle = rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
}
