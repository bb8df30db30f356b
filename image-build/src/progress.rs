//! Says on standard error what is being done and how long it took.

use std::time::Instant;

#[derive(Debug)]
pub struct Progress {
    began: Instant,
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        Progress { began: Instant::now(), quiet }
    }

    /// A phase that begins now.
    pub fn phase(&self, what: &str) {
        if !self.quiet {
            eprintln!("[{:6.1} s] {what}", self.began.elapsed().as_secs_f32());
        }
    }

    /// Something that the user must know; never left out.
    pub fn notice(&self, text: &str) {
        eprintln!("[{:6.1} s] notice: {text}", self.began.elapsed().as_secs_f32());
    }
}
