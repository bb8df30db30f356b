//! Lines for whoever sits at the machine: /dev/console, and the agent's log.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use machine::Root;
use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// The machine's console. A console that cannot take a line loses it: nothing waits for a terminal.
#[derive(Debug, Clone)]
pub struct Console {
    device: Arc<PathBuf>,
}

impl Console {
    pub fn new(root: &Root) -> Console {
        Console { device: Arc::new(root.path("/dev/console")) }
    }

    /// Prints `corten: <text>`.
    pub fn print(&self, text: &str) {
        tracing::info!("console: {text}");
        let opened = OpenOptions::new().append(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(self.device.as_path());
        let written = opened.and_then(|mut device| device.write_all(format!("corten: {text}\n").as_bytes()));
        if let Err(error) = written {
            tracing::debug!("{}: {error}", self.device.display());
        }
    }
}
