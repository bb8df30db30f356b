//! Unix sockets in directories whose paths may be longer than the 107 bytes that an address can hold.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

/// Connects to `<directory>/<name>` through the directory's descriptor.
pub fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    through(directory, name, |path| UnixStream::connect(path))
}

/// Listens at `<directory>/<name>`, in place of what an earlier process left there.
pub fn bind(directory: &Path, name: &str) -> io::Result<UnixListener> {
    through(directory, name, |path| {
        remove(path)?;
        UnixListener::bind(path)
    })
}

/// A datagram socket at `<directory>/<name>`, in place of what an earlier process left there.
pub fn bind_datagram(directory: &Path, name: &str) -> io::Result<UnixDatagram> {
    through(directory, name, |path| {
        remove(path)?;
        UnixDatagram::bind(path)
    })
}

/// Has a datagram socket send to `<directory>/<name>`.
pub fn connect_datagram(socket: &UnixDatagram, directory: &Path, name: &str) -> io::Result<()> {
    through(directory, name, |path| socket.connect(path))
}

fn through<T>(directory: &Path, name: &str, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let handle = rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    work(Path::new(&format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
