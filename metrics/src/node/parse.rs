//! The formats of /proc (proc(5)).

use super::{CpuTimes, Memory, Modes, Vm};
use crate::parse::{filled, flat, number, words};

/// Each CPU goes to `cpus`.
pub fn stat(text: &[u8], cpus: &mut Vec<(u32, Modes)>) -> Option<CpuTimes> {
    cpus.clear();
    let (mut times, mut seen) = (CpuTimes::default(), false);
    for line in text.split(|byte| *byte == b'\n') {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        let mut value = || words.next().and_then(number).unwrap_or(0);
        match key {
            b"cpu" => {
                seen = true;
                times.all = modes(value);
            }
            b"ctxt" => times.context_switches = value(),
            b"btime" => times.boot_time = value(),
            b"processes" => times.forks = value(),
            b"procs_running" => times.running = value(),
            b"procs_blocked" => times.blocked = value(),
            other => {
                let cpu = other.strip_prefix(b"cpu").and_then(number).and_then(|cpu| u32::try_from(cpu).ok());
                cpus.extend(cpu.map(|cpu| (cpu, modes(value))));
            }
        }
    }
    seen.then_some(times)
}

fn modes(mut value: impl FnMut() -> u64) -> Modes {
    Modes { user: value(), nice: value(), system: value(), idle: value(), iowait: value(), irq: value(), softirq: value(), steal: value() }
}

/// Lines of `Key:   value kB`.
pub fn meminfo(text: &[u8]) -> Option<Memory> {
    let (mut memory, mut total) = (Memory::default(), None);
    for (key, kibibytes) in flat(text) {
        let bytes = kibibytes.saturating_mul(1024);
        match key {
            b"MemTotal:" => total = Some(bytes),
            b"MemFree:" => memory.free = bytes,
            b"MemAvailable:" => memory.available = bytes,
            b"Buffers:" => memory.buffers = bytes,
            b"Cached:" => memory.cached = bytes,
            b"Inactive(file):" => memory.inactive_file = bytes,
            b"SwapTotal:" => memory.swap_total = bytes,
            b"SwapFree:" => memory.swap_free = bytes,
            b"Dirty:" => memory.dirty = bytes,
            b"Writeback:" => memory.writeback = bytes,
            b"Slab:" => memory.slab = bytes,
            _ => {}
        }
    }
    Some(Memory { total: total?, ..memory })
}

pub fn vmstat(text: &[u8]) -> Option<Vm> {
    filled(text, Vm::default(), |vm, key, value| match key {
        b"pgfault" => vm.page_faults = value,
        b"pgmajfault" => vm.major_page_faults = value,
        b"pswpin" => vm.swapped_in_pages = value,
        b"pswpout" => vm.swapped_out_pages = value,
        b"oom_kill" => vm.oom_kills = value,
        _ => {}
    })
}

pub fn loadavg(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = words(text).map(|word| std::str::from_utf8(word).ok()?.parse::<f64>().ok());
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_and_times() {
        let text = b"cpu  10 1 20 300 4 5 6 7 0 0\ncpu0 5 0 10 150 2 0 0 0 0 0\ncpu1 5 1 10 150 2 5 6 7 0 0\nintr 5 1\nctxt 99\nbtime 1700000000\nprocesses 42\nprocs_running 2\nprocs_blocked 1\n";
        let mut cpus = Vec::new();
        let times = stat(text, &mut cpus).unwrap();
        assert_eq!((times.all.busy(), times.all.idle, times.all.steal, cpus.len()), (42, 300, 7, 2));
        assert_eq!((times.context_switches, times.boot_time, times.forks, times.running, times.blocked), (99, 1_700_000_000, 42, 2, 1));
        assert_eq!((cpus[1].0, cpus[1].1.busy()), (1, 27));
    }

    #[test]
    fn memory_in_bytes() {
        let text = b"MemTotal:        2048 kB\nMemFree:          512 kB\nInactive(file):   256 kB\nHugePages_Total:       0\n";
        let memory = meminfo(text).unwrap();
        assert_eq!((memory.total, memory.working_set()), (2048 * 1024, 1280 * 1024));
    }
}
