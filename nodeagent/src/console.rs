//! Lines for whoever sits at the machine: its consoles, and the agent's log.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use machine::Root;
use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// The machine's consoles: all that the kernel prints to, since only one of them, /dev/console, may have nobody before it. A console that
/// cannot take a line loses it: nothing waits for a terminal.
#[derive(Debug, Clone)]
pub struct Console {
    devices: Arc<Vec<PathBuf>>,
}

impl Console {
    pub fn new(root: &Root) -> Console {
        // Documentation/ABI/testing/sysfs-tty: the names of the devices behind /dev/console.
        let active = std::fs::read_to_string(root.path("/sys/class/tty/console/active")).unwrap_or_default();
        let mut devices: Vec<PathBuf> = active.split_whitespace().map(|name| root.path(&format!("/dev/{name}"))).collect();
        if devices.is_empty() {
            devices.push(root.path("/dev/console"));
        }
        Console { devices: Arc::new(devices) }
    }

    /// Prints `corten: <text>`.
    pub fn print(&self, text: &str) {
        tracing::info!("console: {text}");
        for device in self.devices.iter() {
            let opened = OpenOptions::new().append(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(device);
            let written = opened.and_then(|mut device| device.write_all(format!("corten: {text}\n").as_bytes()));
            if let Err(error) = written {
                tracing::debug!("{}: {error}", device.display());
            }
        }
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
    }
}
