//! Lines for whoever sits at the machine: its consoles, and the agent's log.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use machine::Root;
use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// The machine's consoles: all that the kernel prints to, since only one of them, /dev/console, may have nobody before it. A console that
/// cannot take a line loses it: nothing waits for a terminal.
#[derive(Debug, Clone)]
pub struct Console {
    devices: Arc<Vec<PathBuf>>,
    said: Arc<Mutex<VecDeque<String>>>,
}

/// Lines that are kept for the dashboard.
const KEPT: usize = 3;

impl Console {
    pub fn new(root: &Root) -> Console {
        // Documentation/ABI/testing/sysfs-tty: the names of the devices behind /dev/console.
        let active = std::fs::read_to_string(root.path("/sys/class/tty/console/active")).unwrap_or_default();
        // tty0 is whichever virtual terminal is in front: lines belong on the first one, where the kernel's are, and not over the dashboard.
        let named = |name| if name == "tty0" && root.path("/dev/tty1").exists() { "tty1" } else { name };
        let mut devices: Vec<PathBuf> = active.split_whitespace().map(|name| root.path(&format!("/dev/{}", named(name)))).collect();
        if devices.is_empty() {
            devices.push(root.path("/dev/console"));
        }
        Console { devices: Arc::new(devices), said: Arc::default() }
    }

    /// Prints `corten: <text>`.
    pub fn print(&self, text: &str) {
        tracing::info!("console: {text}");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == KEPT {
            said.pop_front();
        }
        said.push_back(text.to_owned());
        drop(said);
        for device in self.devices.iter() {
            let opened = OpenOptions::new().append(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(device);
            let written = opened.and_then(|mut device| device.write_all(format!("corten: {text}\n").as_bytes()));
            if let Err(error) = written {
                tracing::debug!("{}: {error}", device.display());
            }
        }
    }

    /// The last lines, the oldest first.
    pub fn last(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_console_has_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.path("/sys/class/tty/console")).unwrap();
        fs::create_dir_all(root.path("/dev")).unwrap();
        let said = |name: &str| fs::read_to_string(root.path("/dev").join(name)).unwrap();
        ["console", "ttyS0", "tty0"].iter().for_each(|name| fs::write(root.path("/dev").join(name), "").unwrap());
        Console::new(&root).print("one");
        assert_eq!([said("console"), said("ttyS0"), said("tty0")], ["corten: one\n", "", ""]);
        fs::write(root.path("/sys/class/tty/console/active"), "ttyS0 tty0\n").unwrap();
        Console::new(&root).print("two");
        assert_eq!([said("console"), said("ttyS0"), said("tty0")], ["corten: one\n", "corten: two\n", "corten: two\n"]);
        // With virtual terminals, lines stay on the first one.
        fs::write(root.path("/dev/tty1"), "").unwrap();
        let console = Console::new(&root);
        ["three", "four", "five", "six"].iter().for_each(|line| console.print(line));
        assert_eq!((said("tty0").as_str(), said("tty1").lines().count()), ("corten: two\n", 4));
        assert_eq!(console.last(), ["four", "five", "six"]);
    }
}
