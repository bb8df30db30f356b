//! Waits until something happens in a directory (inotify).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

#[derive(Debug)]
pub struct Wait {
    inotify: Inotify,
    /// The same descriptor, for tokio to poll: it reads as a pipe does.
    events: Receiver,
}

impl Wait {
    pub fn new() -> io::Result<Wait> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Wait { inotify, events })
    }

    /// Watches these directories from now on. One that is watched already stays so; one that is not there is left out.
    pub fn watch(&self, directories: &[&Path]) -> io::Result<()> {
        let happenings = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        for directory in directories {
            match self.inotify.add_watch(*directory, happenings) {
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Something happened since the last call.
    pub async fn happened(&self) -> io::Result<()> {
        // What exactly happened does not matter: whoever waits looks for itself.
        let mut events = [0; 4096];
        loop {
            self.events.readable().await?;
            match self.events.try_read(&mut events) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
