//! The kernel's own watch over pressure: a threshold is written to a file of pressure stall information, and whoever polls the file is woken when
//! tasks stood still for that long (Documentation/accounting/psi.rst). Nothing is read, and nothing runs, while they do not.

use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    pub const ALL: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Io];

    /// As the kernel's files have it.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
        }
    }
}

/// Whose standing still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    Some,
    Full,
}

/// Tasks stood still for so long within a window of so long. The kernel takes windows of 500 ms to 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub stall: Stall,
    pub time: Duration,
    pub within: Duration,
}

/// As the kernel reads it, in microseconds.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stall = match self.stall {
            Stall::Some => "some",
            Stall::Full => "full",
        };
        write!(f, "{stall} {} {}", self.time.as_micros(), self.within.as_micros())
    }
}

/// Why the kernel does not watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kernel has no pressure stall information ({}); it needs psi=1 on its command line", .0.display())]
    NotTold(PathBuf),
    #[error("open {}", .0.display())]
    Open(PathBuf, #[source] Errno),
    #[error("write {threshold:?} to {}; who has no CAP_SYS_RESOURCE is given windows of 2 s, 4 s and so on only", .path.display())]
    Refused {
        path: PathBuf,
        threshold: String,
        #[source]
        source: std::io::Error,
    },
}

/// Of the whole machine: a file under /proc.
pub fn of_machine(proc: &Path, resource: Resource) -> PathBuf {
    proc.join("pressure").join(resource.name())
}

/// Of one cgroup.
pub fn of_group(directory: &Path, resource: Resource) -> PathBuf {
    directory.join(format!("{}.pressure", resource.name()))
}

/// Has the kernel watch. The file that is returned is ready by priority (`POLLPRI`), at most once a window, each time that the threshold is
/// passed; being polled is what takes the event back. An error (`POLLERR`) says that the cgroup is gone.
pub fn arm(path: &Path, threshold: Threshold) -> Result<OwnedFd, Error> {
    let file = match open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        // A kernel that has it, but keeps no account, has cgroups' files and not those under /proc.
        Err(Errno::NOENT | Errno::OPNOTSUPP) => return Err(Error::NotTold(path.to_owned())),
        opened => opened.map_err(|errno| Error::Open(path.to_owned(), errno))?,
    };
    let mut file = std::fs::File::from(file);
    // With the zero that ends it: the kernel takes the last byte for that.
    let line = format!("{threshold}\0");
    match file.write_all(line.as_bytes()) {
        Ok(()) => Ok(file.into()),
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Err(Error::NotTold(path.to_owned())),
        Err(source) => Err(Error::Refused { path: path.to_owned(), threshold: threshold.to_string(), source }),
    }
}

/// What a watch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The threshold was passed.
    Stalled,
    /// There will be no more.
    Gone,
}

/// Sleeps until a trigger says something, on a thread of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
}

impl Watch {
    pub fn start(trigger: OwnedFd, tell: impl FnMut(Event) + Send + 'static) -> std::io::Result<Watch> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = stop.clone();
        std::thread::Builder::new().name("pressure".to_owned()).spawn(move || wait(&trigger, &stopped, tell))?;
        Ok(Watch { stop })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Only a counter that is full would not take it, and then it says the same already.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }
}

fn wait(trigger: &OwnedFd, stop: &OwnedFd, mut tell: impl FnMut(Event)) {
    loop {
        let mut files = [PollFd::from_borrowed_fd(trigger.as_fd(), PollFlags::PRI), PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
        match poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            Ok(_) if !files[1].revents().is_empty() => return,
            Ok(_) if !files[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL) => tell(Event::Stalled),
            _ => return tell(Event::Gone),
        }
    }
}

#[cfg(test)]
mod tests;
