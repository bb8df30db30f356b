//! A file of the kernel's that stays open and is read anew from its start each time: a third to a tenth of what opening it again costs.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};

/// After how many reads a file that was not there is looked for again: twice as many each time, up to the last.
const FIRST_WAIT: u16 = 1;
const LAST_WAIT: u16 = 32;

/// One file in a directory. It may come later and go again: controllers are switched on and off.
#[derive(Debug)]
pub struct Kept {
    name: &'static str,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(OwnedFd),
    Absent { reads_left: u16, wait: u16 },
}

impl Kept {
    pub fn new(name: &'static str) -> Kept {
        Kept { name, state: State::Absent { reads_left: 0, wait: FIRST_WAIT } }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// What the file holds, in `buffer`; `None` where there is no such file now, or it says nothing (`EOPNOTSUPP` of a kernel without
    /// pressure stall information). What does not fit whole is worth nothing, and is none as well.
    pub fn read<'b>(&mut self, directory: &OwnedFd, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let length = match &self.state {
            State::Open(file) => match read(file, buffer) {
                // The controller was switched off, and maybe on again: that makes another file.
                Err(Errno::NODEV) => self.open(directory).and_then(|()| self.read_open(buffer)),
                other => other,
            },
            State::Absent { reads_left: 0, .. } => self.open(directory).and_then(|()| self.read_open(buffer)),
            State::Absent { .. } => Err(Errno::NOENT),
        };
        match length {
            Ok(length) if length < buffer.len() => Some(&buffer[..length]),
            Ok(_) => None,
            Err(_) => {
                self.wait_longer();
                None
            }
        }
    }

    /// As [`Kept::read`], for a file of many records, which the kernel gives out a page at a time.
    pub fn read_all<'b>(&mut self, directory: &OwnedFd, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        if buffer.is_empty() {
            buffer.resize(16 * 1024, 0);
        }
        // Also opens it, or finds out that it has gone.
        if self.read(directory, buffer).is_none() && !self.is_open() {
            return None;
        }
        let State::Open(file) = &self.state else { return None };
        let mut length = 0;
        loop {
            if length == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
            match pread(file, &mut buffer[length..], length as u64) {
                Ok(0) => return Some(&buffer[..length]),
                Ok(more) => length += more,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn open(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(directory.as_fd(), self.name, flags, Mode::empty())?;
        self.state = State::Open(file);
        Ok(())
    }

    fn read_open(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match &self.state {
            State::Open(file) => read(file, buffer),
            State::Absent { .. } => Err(Errno::NOENT),
        }
    }

    fn wait_longer(&mut self) {
        self.state = match self.state {
            State::Open(_) => State::Absent { reads_left: FIRST_WAIT, wait: FIRST_WAIT },
            State::Absent { reads_left: 0, wait } => {
                let wait = (wait * 2).min(LAST_WAIT);
                State::Absent { reads_left: wait, wait }
            }
            State::Absent { reads_left, wait } => State::Absent { reads_left: reads_left - 1, wait },
        };
    }
}

fn read(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| pread(file, &mut *buffer, 0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::CWD;

    use super::*;

    fn directory(path: &std::path::Path) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_file_that_comes_later_is_found_and_read_anew_each_time() {
        let place = tempfile::tempdir().unwrap();
        let (directory, mut buffer) = (directory(place.path()), [0; 16]);
        let mut file = Kept::new("f");
        assert_eq!(file.read(&directory, &mut buffer), None);
        fs::write(place.path().join("f"), "1\n").unwrap();
        let found = (0..4).find(|_| file.read(&directory, &mut buffer).is_some());
        assert!(found.is_some_and(|reads| reads > 0), "looked for again at once, or not soon: {found:?}");
        fs::write(place.path().join("f"), "22\n").unwrap();
        assert_eq!(file.read(&directory, &mut buffer), Some(&b"22\n"[..]));
    }

    #[test]
    fn what_does_not_fit_is_not_cut() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("f"), "0123456789").unwrap();
        let directory = directory(place.path());
        assert_eq!(Kept::new("f").read(&directory, &mut [0; 10]), None);
        assert_eq!(Kept::new("f").read(&directory, &mut [0; 11]), Some(&b"0123456789"[..]));
    }

    #[test]
    fn files_of_many_records_are_read_whole() {
        let place = tempfile::tempdir().unwrap();
        let (text, mut buffer) = ("0123456789abcdef".repeat(5000), Vec::new());
        fs::write(place.path().join("f"), &text).unwrap();
        let directory = directory(place.path());
        let mut file = Kept::new("f");
        for _ in 0..2 {
            assert_eq!(file.read_all(&directory, &mut buffer), Some(text.as_bytes()));
        }
    }
}
