//! One cgroup whose files are kept open. All are opened by way of its directory's descriptor, so that whatever is read is of this cgroup
//! and never of one that came to the same path later.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::kept::Kept;
use crate::parse;
use crate::sample::{Limits, Sample};

/// Limits seldom change: they are read once in so many sweeps, and their files not kept open.
const LIMITS_EVERY: u32 = 32;
/// `memory.stat` makes up more than half of a sweep. Where neither usage nor CPU time moved, it is read once in so many sweeps.
const STILL_EVERY: u32 = 8;

#[derive(Debug)]
pub struct Group {
    directory: OwnedFd,
    /// Of the directory: the kernel gives none of them twice.
    pub inode: u64,
    /// When it was made.
    pub since: SystemTime,
    cpu: Kept,
    memory_current: Kept,
    memory_stat: Kept,
    memory_events: Kept,
    swap: Kept,
    io: Kept,
    pids: Kept,
    huge_pages: [Kept; 2],
    cpu_pressure: Kept,
    memory_pressure: Kept,
    io_pressure: Kept,
    sample: Sample,
    sweeps: u32,
}

impl Group {
    pub fn open(path: &Path) -> Result<Group, Errno> {
        let directory = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let status = fstat(&directory)?;
        let since = u64::try_from(status.st_ctime).unwrap_or(0);
        Ok(Group {
            directory,
            inode: status.st_ino,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(since),
            cpu: Kept::new("cpu.stat"),
            memory_current: Kept::new("memory.current"),
            memory_stat: Kept::new("memory.stat"),
            memory_events: Kept::new("memory.events"),
            swap: Kept::new("memory.swap.current"),
            io: Kept::new("io.stat"),
            pids: Kept::new("pids.current"),
            huge_pages: [Kept::new("hugetlb.2MB.current"), Kept::new("hugetlb.1GB.current")],
            cpu_pressure: Kept::new("cpu.pressure"),
            memory_pressure: Kept::new("memory.pressure"),
            io_pressure: Kept::new("io.pressure"),
            sample: Sample::default(),
            sweeps: 0,
        })
    }

    /// Reads every file; nothing is allocated. `buffer` holds one file at a time.
    pub fn sweep(&mut self, buffer: &mut [u8]) -> &Sample {
        let before = self.sample;
        let cpu = self.cpu.read(&self.directory, buffer).and_then(parse::cpu);
        let current = self.memory_current.read(&self.directory, buffer).and_then(parse::number);
        self.sample.cpu = cpu;
        let still = before.memory.is_some() && before.memory.map(|memory| memory.current) == current && before.cpu == cpu;
        if !still || self.sweeps.is_multiple_of(STILL_EVERY) {
            self.sample.memory = current.and_then(|current| parse::memory(current, self.memory_stat.read(&self.directory, buffer)?));
            self.sample.memory_events = current.and_then(|_| parse::memory_events(self.memory_events.read(&self.directory, buffer)?));
        }
        self.sample.swap_bytes = self.swap.read(&self.directory, buffer).and_then(parse::number);
        self.sample.io = self.io.read(&self.directory, buffer).map(parse::io);
        self.sample.pids = self.pids.read(&self.directory, buffer).and_then(parse::number);
        for (size, file) in self.sample.huge_pages.iter_mut().zip(&mut self.huge_pages) {
            *size = file.read(&self.directory, buffer).and_then(parse::number);
        }
        self.sample.cpu_pressure = self.cpu_pressure.read(&self.directory, buffer).and_then(parse::pressure);
        self.sample.memory_pressure = self.memory_pressure.read(&self.directory, buffer).and_then(parse::pressure);
        self.sample.io_pressure = self.io_pressure.read(&self.directory, buffer).and_then(parse::pressure);
        if self.sweeps.is_multiple_of(LIMITS_EVERY) {
            self.read_limits(buffer);
        }
        self.sweeps = self.sweeps.wrapping_add(1);
        &self.sample
    }

    /// Whether the kernel has taken the cgroup away: even what each cgroup has cannot be opened any more.
    pub fn is_gone(&self) -> bool {
        !self.cpu.is_open() && openat(&self.directory, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).is_err()
    }

    /// Processes that are in it now, by their numbers; none where they are more than the buffer holds.
    pub fn processes<'b>(&self, buffer: &'b mut [u8]) -> impl Iterator<Item = u64> + use<'b> {
        let text = Kept::new("cgroup.procs").read(&self.directory, buffer).unwrap_or_default();
        text.split(|byte| *byte == b'\n').filter_map(parse::number)
    }

    fn read_limits(&mut self, buffer: &mut [u8]) {
        let directory = &self.directory;
        self.sample.limits = Limits {
            cpus: Kept::new("cpu.max").read(directory, buffer).and_then(parse::cpu_max),
            memory_bytes: Kept::new("memory.max").read(directory, buffer).and_then(parse::number),
            swap_bytes: Kept::new("memory.swap.max").read(directory, buffer).and_then(parse::number),
            pids: Kept::new("pids.max").read(directory, buffer).and_then(parse::number),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sample::Pressure;

    #[test]
    fn what_is_not_there_is_absent_and_not_zero() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("cpu.stat"), "usage_usec 5\nuser_usec 2\nsystem_usec 3\n").unwrap();
        let mut group = Group::open(place.path()).unwrap();
        let sample = *group.sweep(&mut [0; 4096]);
        let cpu = sample.cpu;
        assert_eq!(cpu.map(|cpu| cpu.usage_usec), Some(5));
        assert_eq!(Sample { cpu: None, ..sample }, Sample::default());
    }

    #[test]
    fn a_whole_cgroup() {
        let place = tempfile::tempdir().unwrap();
        let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        for (name, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 2\nsystem_usec 3\nnr_periods 4\nnr_throttled 1\nthrottled_usec 9\n"),
            ("memory.current", "8192\n"),
            ("memory.stat", "anon 4096\nfile 4096\ninactive_file 1024\n"),
            ("memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n"),
            ("memory.swap.current", "0\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("pids.current", "12\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("cpu.pressure", pressure),
            ("memory.pressure", pressure),
            ("io.pressure", pressure),
            ("cpu.max", "max 100000\n"),
            ("memory.max", "65536\n"),
            ("pids.max", "100\n"),
        ] {
            fs::write(place.path().join(name), text).unwrap();
        }
        let mut group = Group::open(place.path()).unwrap();
        let sample = *group.sweep(&mut [0; 4096]);
        let stall = Some(Pressure { some_usec: 7, full_usec: Some(3) });
        assert_eq!((sample.cpu_pressure, sample.memory_pressure, sample.io_pressure), (stall, stall, stall));
        assert_eq!(sample.memory.map(|memory| memory.working_set()), Some(7168));
        assert_eq!(sample.memory_events.map(|events| events.oom_kill), Some(4));
        assert_eq!((sample.swap_bytes, sample.pids, sample.huge_pages), (Some(0), Some(12), [Some(2097152), None]));
        assert_eq!(sample.limits, Limits { cpus: None, memory_bytes: Some(65536), swap_bytes: None, pids: Some(100) });
    }

    #[test]
    fn an_idle_group_is_seen_when_it_moves_again() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("memory.current", "8192\n");
        write("memory.stat", "anon 1\n");
        let (mut group, mut buffer) = (Group::open(place.path()).unwrap(), [0; 4096]);
        let anon = |sample: &Sample| sample.memory.map(|memory| memory.anon);
        assert_eq!(anon(group.sweep(&mut buffer)), Some(1));
        write("memory.stat", "anon 2\n");
        let late = (0..STILL_EVERY).find(|_| anon(group.sweep(&mut buffer)) == Some(2));
        assert!(late.is_some(), "never looked at again");
        write("memory.stat", "anon 3\n");
        write("memory.current", "4096\n");
        assert_eq!(anon(group.sweep(&mut buffer)), Some(3));
    }
}
