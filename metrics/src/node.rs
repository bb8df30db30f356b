//! The machine as a whole, from /proc.

pub(crate) mod devices;
mod parse;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::kept::Kept;
use crate::parse as kernel;
use crate::rates::{Stalls, per_second};
use crate::sample::Pressure;
pub use devices::{Disk, Interface, Label, Traffic};

/// What /proc tells of the machine at one moment; an absent part is one that the kernel does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    pub cpu: Option<CpuTimes>,
    /// Each CPU that is on, by its number.
    pub cpus: Vec<(u32, Modes)>,
    pub memory: Option<Memory>,
    pub vm: Option<Vm>,
    /// Over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
    pub disks: Vec<Disk>,
    /// All but the pods' ends (veth*): there are as many of those as pods.
    pub interfaces: Vec<Interface>,
    pub rates: Rates,
}

/// `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Of all CPUs together.
    pub all: Modes,
    /// Seconds since 1970.
    pub boot_time: u64,
    pub context_switches: u64,
    /// Processes and threads made since boot.
    pub forks: u64,
    pub running: u64,
    pub blocked: u64,
}

/// What CPUs did with their time, in ticks of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes {
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
    pub iowait: u64,
    pub irq: u64,
    pub softirq: u64,
    pub steal: u64,
}

impl Modes {
    /// Ticks in which a CPU worked for this machine.
    pub fn busy(&self) -> u64 {
        self.user + self.nice + self.system + self.irq + self.softirq
    }

    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("user", self.user),
            ("nice", self.nice),
            ("system", self.system),
            ("idle", self.idle),
            ("iowait", self.iowait),
            ("irq", self.irq),
            ("softirq", self.softirq),
            ("steal", self.steal),
        ]
    }
}

/// Ticks a second: USER_HZ, the same on every machine that Linux runs on today (include/asm-generic/param.h).
pub const TICKS: f64 = 100.0;

/// `/proc/meminfo`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub free: u64,
    pub available: u64,
    pub buffers: u64,
    pub cached: u64,
    pub inactive_file: u64,
    pub swap_total: u64,
    pub swap_free: u64,
    pub dirty: u64,
    pub writeback: u64,
    pub slab: u64,
}

impl Memory {
    /// As the kubelet counts a machine's: what is not free, without inactive file pages.
    pub fn working_set(&self) -> u64 {
        self.total.saturating_sub(self.free).saturating_sub(self.inactive_file)
    }
}

/// `/proc/vmstat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vm {
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swapped_in_pages: u64,
    pub swapped_out_pages: u64,
    pub oom_kills: u64,
}

/// Since the sweep before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// CPUs in use.
    pub cpus: Option<f64>,
    /// CPUs that had nothing to do. What a hypervisor took away is in neither.
    pub idle_cpus: Option<f64>,
    pub cpu_pressure: Stalls,
    pub memory_pressure: Stalls,
    pub io_pressure: Stalls,
}

impl Node {
    fn rates_since(&self, before: &Node, elapsed: Duration) -> Rates {
        let rate = |of: fn(&Modes) -> u64| {
            let ticks = |node: &Node| node.cpu.as_ref().map(|cpu| of(&cpu.all));
            per_second(ticks(before), ticks(self), elapsed.as_secs_f64()).map(|ticks| ticks / TICKS)
        };
        Rates {
            cpus: rate(Modes::busy),
            idle_cpus: rate(|modes| modes.idle + modes.iowait),
            cpu_pressure: Stalls::between(before.cpu_pressure, self.cpu_pressure, elapsed),
            memory_pressure: Stalls::between(before.memory_pressure, self.memory_pressure, elapsed),
            io_pressure: Stalls::between(before.io_pressure, self.io_pressure, elapsed),
        }
    }
}

/// The files of /proc, kept open.
#[derive(Debug)]
pub struct Files {
    directory: OwnedFd,
    stat: Kept,
    meminfo: Kept,
    vmstat: Kept,
    loadavg: Kept,
    cpu_pressure: Kept,
    memory_pressure: Kept,
    io_pressure: Kept,
    diskstats: Kept,
    interfaces: Kept,
    buffer: Vec<u8>,
}

impl Files {
    /// /proc itself.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub fn open(proc: &Path) -> Result<Files, Errno> {
        let directory = openat(CWD, proc, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Files {
            directory,
            stat: Kept::new("stat"),
            meminfo: Kept::new("meminfo"),
            vmstat: Kept::new("vmstat"),
            loadavg: Kept::new("loadavg"),
            cpu_pressure: Kept::new("pressure/cpu"),
            memory_pressure: Kept::new("pressure/memory"),
            io_pressure: Kept::new("pressure/io"),
            diskstats: Kept::new("diskstats"),
            interfaces: Kept::new("net/dev"),
            buffer: Vec::new(),
        })
    }

    /// Reads all of them into `node`, whose lists are used again.
    pub fn sweep(&mut self, before: &Node, elapsed: Option<Duration>, node: &mut Node) {
        let Files { directory, buffer, .. } = self;
        node.cpu = self.stat.read_all(directory, buffer).and_then(|text| parse::stat(text, &mut node.cpus));
        node.memory = self.meminfo.read_all(directory, buffer).and_then(parse::meminfo);
        node.vm = self.vmstat.read_all(directory, buffer).and_then(parse::vmstat);
        node.load = self.loadavg.read_all(directory, buffer).and_then(parse::loadavg);
        node.cpu_pressure = self.cpu_pressure.read_all(directory, buffer).and_then(kernel::pressure);
        node.memory_pressure = self.memory_pressure.read_all(directory, buffer).and_then(kernel::pressure);
        node.io_pressure = self.io_pressure.read_all(directory, buffer).and_then(kernel::pressure);
        devices::disks(self.diskstats.read_all(directory, buffer).unwrap_or_default(), &mut node.disks);
        devices::own_interfaces(self.interfaces.read_all(directory, buffer).unwrap_or_default(), &mut node.interfaces);
        node.rates = elapsed.map(|elapsed| node.rates_since(before, elapsed)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let mut files = Files::open(Path::new("/proc")).unwrap();
        let (mut first, mut second) = (Node::default(), Node::default());
        files.sweep(&Node::default(), None, &mut first);
        let end = std::time::Instant::now() + Duration::from_millis(200);
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        files.sweep(&first, Some(Duration::from_millis(200)), &mut second);
        let cpu = second.cpu.unwrap();
        assert_eq!(second.cpus.len(), std::thread::available_parallelism().unwrap().get());
        assert!(cpu.boot_time > 1_500_000_000 && cpu.forks > 0);
        let memory = second.memory.unwrap();
        assert!(memory.working_set() > 0 && memory.working_set() < memory.total && memory.available <= memory.total, "{memory:?}");
        assert!(second.vm.unwrap().page_faults >= first.vm.unwrap().page_faults);
        assert!(second.interfaces.iter().any(|interface| interface.name.as_str() == "lo"));
        assert!(second.rates.cpus.unwrap() > 0.5, "{:?}", second.rates);
        let cpus = second.cpus.len() as f64;
        assert!(second.rates.idle_cpus.unwrap() < cpus, "{:?}", second.rates);
        assert!(second.load.is_some());
    }

    #[test]
    fn a_machine_without_files_says_so() {
        let empty = tempfile::tempdir().unwrap();
        let mut node = Node::default();
        Files::open(empty.path()).unwrap().sweep(&Node::default(), None, &mut node);
        assert_eq!(node, Node::default());
    }
}
