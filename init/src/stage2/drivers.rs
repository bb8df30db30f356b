//! Modules for the devices of the machine: once for all that are there (coldplug), then for each that appears (hotplug). modprobe does the
//! work as a child, so that nothing waits for it but what needs the device.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub const MODPROBE: &str = "/usr/sbin/modprobe";
/// The argument by which init runs itself for the coldplug: the walk through sysfs then holds nobody up.
pub const COLDPLUG: &str = "coldplug";
/// So many at once are far below what exec takes.
const MOST_ALIASES: usize = 500;

/// What waits to be loaded.
#[derive(Debug, Default)]
pub struct Drivers {
    waiting: BTreeSet<String>,
    running: bool,
}

impl Drivers {
    /// A device appeared.
    pub fn want(&mut self, alias: String) {
        if self.waiting.len() < MOST_ALIASES {
            self.waiting.insert(alias);
        }
    }

    /// What the next modprobe is to load: one runs at a time.
    pub fn next(&mut self) -> Option<Vec<String>> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        Some(arguments(std::mem::take(&mut self.waiting)))
    }

    pub fn began(&mut self) {
        self.running = true;
    }

    pub fn finished(&mut self) {
        self.running = false;
    }
}

fn arguments(aliases: impl IntoIterator<Item = String>) -> Vec<String> {
    // All of them, the blacklist obeyed, silent about devices without a module.
    ["-a", "-b", "-q", "--"].map(str::to_owned).into_iter().chain(aliases).collect()
}

/// The coldplug, in a process of its own: finds every device's alias and becomes modprobe.
pub fn coldplug() -> std::io::Error {
    let mut aliases = BTreeSet::new();
    collect(Path::new("/sys/devices"), &mut aliases);
    Command::new(MODPROBE).args(arguments(aliases)).exec()
}

fn collect(directory: &Path, aliases: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), aliases),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                let alias = fs::read_to_string(entry.path()).unwrap_or_default();
                // A name that modprobe would take for an option or a file is none of the kernel's.
                aliases.extend(Some(alias.trim().to_owned()).filter(|alias| !alias.is_empty()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_once_each() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for (device, alias) in [("pci0/a", "pci:1\n"), ("pci0/a/virtio0", "virtio:2\n"), ("pci0/b", "pci:1\n"), ("c", "\n")] {
            let path = directory.path().join(device);
            fs::create_dir_all(&path).expect("make");
            fs::write(path.join("modalias"), alias).expect("write");
        }
        let mut aliases = BTreeSet::new();
        collect(directory.path(), &mut aliases);
        assert_eq!(aliases.into_iter().collect::<Vec<_>>(), ["pci:1", "virtio:2"]);
    }

    #[test]
    fn one_modprobe_runs_at_a_time() {
        let mut drivers = Drivers::default();
        drivers.began();
        drivers.want("pci:1".into());
        assert_eq!(drivers.next(), None, "the coldplug runs");
        drivers.finished();
        assert_eq!(drivers.next().map(|arguments| arguments.join(" ")), Some("-a -b -q -- pci:1".into()));
        drivers.want("pci:2".into());
        assert_eq!(drivers.next(), None);
        drivers.finished();
        assert!(drivers.next().is_some());
    }
}
