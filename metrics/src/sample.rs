//! What one cgroup tells at one moment. Counters run since the cgroup was made; an absent part is one that the kernel does not tell.

/// All that is read of one cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    /// Bytes of swap in use.
    pub swap_bytes: Option<u64>,
    pub memory_events: Option<MemoryEvents>,
    /// Of all devices together.
    pub io: Option<Io>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes of huge pages in use, by the sizes that machines have: 2 MiB and 1 GiB.
    pub huge_pages: [Option<u64>; 2],
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
    pub limits: Limits,
}

/// `cpu.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    pub usage_usec: u64,
    pub user_usec: u64,
    pub system_usec: u64,
    /// Only where the controller is on.
    pub throttling: Option<Throttling>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_usec: u64,
}

/// `memory.current` and what matters of `memory.stat`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub current: u64,
    pub anon: u64,
    pub file: u64,
    pub inactive_file: u64,
    pub file_mapped: u64,
    pub kernel: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

impl Memory {
    /// What cannot easily be taken back, as the kubelet and cAdvisor define it: usage without inactive file pages, never below zero.
    pub fn working_set(&self) -> u64 {
        self.current.saturating_sub(self.inactive_file)
    }
}

/// `memory.events`, of the whole subtree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

/// `io.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// `*.pressure`: for how long some, and all, of the tasks that had work stood still for want of the resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    pub some_usec: u64,
    /// Older kernels do not tell it for the CPU.
    pub full_usec: Option<u64>,
}

/// What a cgroup may use at most. Absent: no limit, or no controller.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// In CPUs: `cpu.max`, quota by period.
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub pids: Option<u64>,
}
