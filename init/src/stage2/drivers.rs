//! Modules for the devices of the machine: once for all that are there (coldplug), then for each that appears (hotplug). modprobe does the
//! work as a child, so that nothing waits for it but what needs the device.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use machine::Root;

use crate::{console, mount};

pub const MODPROBE: &str = "/usr/sbin/modprobe";
/// The argument by which init runs itself for the coldplug: the walk through sysfs then holds nobody up.
pub const COLDPLUG: &str = "coldplug";
/// So many at once are far below what exec takes.
const MOST_ALIASES: usize = 500;

/// Buses of disks and network cards.
const HARDWARE: [&str; 4] = ["virtio:", "pci:", "vmbus:", "scsi:"];

/// No device calls for it: the kernel's crash records in the firmware's variables, shown in /sys/fs/pstore.
const CRASH_RECORDS: &str = "efi_pstore";
/// The kernel's own watchdog, for machines that have none. It panics instead of restarting, so that the crash records tell of it.
const SOFT_WATCHDOG: [&str; 4] = ["-q", "--", "softdog", "soft_panic=1"];

/// What waits to be loaded. One process does it at a time.
#[derive(Debug, Default)]
pub struct Drivers {
    all: bool,
    soft_watchdog: bool,
    waiting: BTreeSet<String>,
    running: Option<Work>,
}

/// What the next process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Coldplug,
    SoftWatchdog,
    /// modprobe for these aliases.
    Load(BTreeSet<String>),
}

impl Work {
    /// The program that does it, and its arguments.
    pub fn command(&self) -> (&'static str, Vec<String>) {
        match self {
            // In a process of its own: the walk through sysfs takes long.
            Work::Coldplug => ("/proc/self/exe", vec![COLDPLUG.to_owned()]),
            Work::SoftWatchdog => (MODPROBE, SOFT_WATCHDOG.map(str::to_owned).to_vec()),
            Work::Load(aliases) => (MODPROBE, arguments(aliases.iter().cloned())),
        }
    }
}

impl Drivers {
    /// Every device is to be looked at.
    pub fn want_all(&mut self) {
        self.all = true;
    }

    /// A device appeared.
    pub fn want(&mut self, alias: String) {
        if self.waiting.len() < MOST_ALIASES {
            self.waiting.insert(alias);
        } else {
            self.all = true;
        }
    }

    /// The machine turned out to have no watchdog.
    pub fn want_soft_watchdog(&mut self) {
        self.soft_watchdog = true;
    }

    /// Whether a watchdog may still turn up: its driver, or the kernel's own.
    pub fn may_bring_watchdog(&self) -> bool {
        self.all || self.soft_watchdog || matches!(self.running, Some(Work::Coldplug | Work::SoftWatchdog))
    }

    /// What to do next; until [`Drivers::finished`] there is nothing more.
    pub fn next(&mut self) -> Option<Work> {
        if self.running.is_some() {
            return None;
        }
        self.running = if std::mem::take(&mut self.all) {
            self.waiting.clear();
            Some(Work::Coldplug)
        } else if std::mem::take(&mut self.soft_watchdog) {
            Some(Work::SoftWatchdog)
        } else {
            Some(std::mem::take(&mut self.waiting)).filter(|waiting| !waiting.is_empty()).map(Work::Load)
        };
        self.running.clone()
    }

    /// The process has ended: what it did.
    pub fn finished(&mut self) -> Option<Work> {
        self.running.take()
    }
}

fn arguments(aliases: impl IntoIterator<Item = String>) -> Vec<String> {
    // All of them, the blacklist obeyed, silent about devices without a module.
    ["-a", "-b", "-q", "--"].map(str::to_owned).into_iter().chain(aliases).collect()
}

/// The coldplug, in a process of its own: finds every device's alias and has modprobe load the modules, what the machine waits for first.
pub fn coldplug(root: &Root) -> io::Result<()> {
    let mut aliases = BTreeSet::new();
    collect(&root.path("/sys/devices"), &mut aliases);
    let mut aliases: Vec<String> = aliases.into_iter().collect();
    aliases.sort_by_key(|alias| urgency(alias));
    let (first, rest): (Vec<String>, Vec<String>) = aliases.into_iter().partition(|alias| urgency(alias) == Urgency::Network);
    let (hardware, rest): (Vec<String>, Vec<String>) = rest.into_iter().partition(|alias| urgency(alias) == Urgency::Hardware);
    let modprobe = |aliases: Vec<String>| Command::new(MODPROBE).args(arguments(aliases)).status();
    modprobe(first)?;
    // The agent starts now, and the disk that was booted has its driver: others and what is faster with a module come beside it.
    let _ = rustix::process::nice(10);
    modprobe(hardware)?;
    // The kernel fills it with programs from a module of its own, which takes longer than any other mount.
    if let Err(error) = mount::BPF.apply(root) {
        eprintln!("{}", console::chain(&error));
    }
    modprobe(rest.into_iter().chain([CRASH_RECORDS.to_owned()]).collect())?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// The agent waits for it.
    Network,
    Hardware,
    Idle,
}

fn urgency(alias: &str) -> Urgency {
    // virtio device 1 is a network card (virtio 1.2, section 5), PCI base class 02 a network controller.
    if alias.starts_with("virtio:d00000001v") || alias.starts_with("pci:") && alias.contains("bc02") {
        Urgency::Network
    } else if HARDWARE.iter().any(|bus| alias.starts_with(bus)) {
        Urgency::Hardware
    } else {
        Urgency::Idle
    }
}

fn collect(directory: &Path, aliases: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), aliases),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                let alias = fs::read_to_string(entry.path()).unwrap_or_default();
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
    fn network_cards_come_before_other_hardware() {
        let mut aliases = ["cpu:type:x86", "pci:v8086d1sv1sd1bc01sc06i01", "virtio:d00000001v00001AF4", "pci:v8086d2sv1sd1bc02sc00i00"];
        aliases.sort_by_key(|alias| urgency(alias));
        let order = ["virtio:d00000001v00001AF4", "pci:v8086d2sv1sd1bc02sc00i00", "pci:v8086d1sv1sd1bc01sc06i01", "cpu:type:x86"];
        assert_eq!(aliases, order);
    }

    #[test]
    fn one_process_runs_at_a_time() {
        let mut drivers = Drivers::default();
        drivers.want_all();
        assert_eq!(drivers.next(), Some(Work::Coldplug));
        drivers.want("pci:1".into());
        assert_eq!(drivers.next(), None, "the coldplug runs");
        assert_eq!(drivers.finished(), Some(Work::Coldplug));
        let load = Work::Load(BTreeSet::from(["pci:1".to_owned()]));
        assert_eq!(load.command().1, ["-a", "-b", "-q", "--", "pci:1"]);
        assert_eq!(drivers.next(), Some(load));
        drivers.finished();
        assert_eq!(drivers.next(), None, "nothing waits");
        assert_eq!(drivers.finished(), None);
        for device in 0..=MOST_ALIASES {
            drivers.want(device.to_string());
        }
        assert_eq!(drivers.next(), Some(Work::Coldplug), "more than a command line holds");
    }

    #[test]
    fn soft_watchdog_is_loaded_once() {
        let mut drivers = Drivers::default();
        drivers.want_all();
        assert!(drivers.may_bring_watchdog() && drivers.next().is_some() && drivers.may_bring_watchdog());
        drivers.finished();
        assert!(!drivers.may_bring_watchdog());
        drivers.want_soft_watchdog();
        assert!(drivers.may_bring_watchdog());
        assert_eq!(drivers.next(), Some(Work::SoftWatchdog));
        assert!(drivers.may_bring_watchdog());
        drivers.finished();
        assert!(!drivers.may_bring_watchdog());
        assert_eq!(drivers.next(), None);
    }
}
