//! The logs of services: their output, line by line with a time stamp, in files of bounded size and number. Until EPHEMERAL is open they
//! lie in memory.

mod file;
mod lines;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::clock;
use file::LogFile;
use lines::Lines;

/// At most this much of one service's output is taken in one turn of the event loop.
const BYTES_A_TURN: usize = 64 * 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub file_bytes: u64,
    /// Files a service, the current one included.
    pub files: u32,
}

pub const EARLY: Limits = Limits { file_bytes: 512 * 1024, files: 2 };
pub const KEPT: Limits = Limits { file_bytes: 4 * 1024 * 1024, files: 3 };

/// One service's log. init holds both ends of the pipe for as long as it knows the service, so that a restart loses nothing.
#[derive(Debug)]
struct Log {
    read: OwnedFd,
    write: OwnedFd,
    lines: Lines,
    file: LogFile,
}

/// All logs, by the name of their file.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    limits: Limits,
    logs: BTreeMap<String, Log>,
}

impl Logs {
    pub fn new(directory: PathBuf, limits: Limits) -> Logs {
        Logs { directory, limits, logs: BTreeMap::new() }
    }

    /// Where a process that is about to be started writes to.
    pub fn output(&mut self, name: &str) -> io::Result<OwnedFd> {
        if let Some(log) = self.logs.get(name) {
            return log.write.try_clone();
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
        let output = write.try_clone()?;
        let file = LogFile::new(self.directory.join(format!("{name}.log")), self.limits);
        self.logs.insert(name.to_owned(), Log { read, write, lines: Lines::default(), file });
        Ok(output)
    }

    /// What to wait on.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.logs.iter().map(|(name, log)| (name.as_str(), log.read.as_fd()))
    }

    /// Takes what a service has written.
    pub fn take(&mut self, name: &str) {
        let Some(log) = self.logs.get_mut(name) else { return };
        let mut buffer = [0; 16 * 1024];
        let mut text = Vec::new();
        let stamp = clock::stamp();
        let mut taken = 0;
        while taken < BYTES_A_TURN {
            match rustix::io::read(&log.read, &mut buffer) {
                Ok(length) if length > 0 => {
                    taken += length;
                    log.lines.push(buffer.get(..length).unwrap_or_default(), &stamp, &mut text);
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        log.file.append(&text);
    }

    /// A process has ended: its last line is complete, even without a line end.
    pub fn finish(&mut self, name: &str) {
        self.take(name);
        if let Some(log) = self.logs.get_mut(name) {
            let mut text = Vec::new();
            log.lines.finish(&clock::stamp(), &mut text);
            log.file.append(&text);
        }
    }

    /// The service is forgotten; its files stay.
    pub fn forget(&mut self, name: &str) {
        self.finish(name);
        self.logs.remove(name);
    }

    /// Goes on in another directory, and takes what was written so far along.
    pub fn move_to(&mut self, directory: PathBuf, limits: Limits) -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        let early = std::mem::replace(&mut self.directory, directory);
        self.limits = limits;
        for (name, log) in &mut self.logs {
            let mut file = LogFile::new(self.directory.join(format!("{name}.log")), limits);
            for old in log.file.paths() {
                if let Ok(text) = fs::read(&old) {
                    file.append(&text);
                }
            }
            log.file = file;
        }
        remove_logs(&early);
        Ok(())
    }

    /// Ends all logs, so that their file system can be unmounted; what comes after that is lost.
    pub fn close_all(&mut self) {
        let names: Vec<String> = self.logs.keys().cloned().collect();
        for name in names {
            self.forget(&name);
        }
    }
}

fn remove_logs(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn write(logs: &mut Logs, name: &str, text: &str) {
        File::from(logs.output(name).expect("pipe")).write_all(text.as_bytes()).expect("write");
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }

    #[test]
    fn output_survives_restarts_of_its_writer_and_the_move() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (early, kept) = (directory.path().join("early"), directory.path().join("kept"));
        let mut logs = Logs::new(early.clone(), EARLY);
        write(&mut logs, "a", "one\ntw");
        logs.take("a");
        write(&mut logs, "a", "o\n");
        logs.finish("a");
        assert_eq!(lines(&early.join("a.log")), ["one", "two"]);

        logs.move_to(kept.clone(), KEPT).expect("move");
        write(&mut logs, "a", "three");
        logs.finish("a");

        assert_eq!(lines(&kept.join("a.log")), ["one", "two", "three"]);
        assert!(!early.join("a.log").exists());
    }

    #[test]
    fn chatty_service_does_not_hold_the_loop() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut logs = Logs::new(directory.path().to_owned(), KEPT);
        let output = logs.output("a").expect("pipe");
        let writer = std::thread::spawn(move || {
            let mut output = File::from(output);
            for _ in 0..32 {
                output.write_all(format!("{}\n", "x".repeat(1023)).repeat(16).as_bytes()).expect("write");
            }
        });
        let mut turns = 0;
        while fs::metadata(directory.path().join("a.log")).map_or(0, |log| log.len()) < 32 * 16 * 1024 {
            let (_, input) = logs.inputs().next().expect("one log");
            let mut wait = [rustix::event::PollFd::from_borrowed_fd(input, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut wait, None).expect("poll");
            logs.take("a");
            turns += 1;
        }
        assert!(turns >= 32 * 16 * 1024 / BYTES_A_TURN, "{turns} turns");
        writer.join().expect("writer");
    }
}
