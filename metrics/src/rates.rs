//! How fast counters ran between two samples. A counter that went backwards (another cgroup, another boot) gives no rate.

use std::time::Duration;

use crate::sample::{Pressure, Sample};

/// Per second, since the sample before. Absent until there are two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// CPUs in use.
    pub cpus: Option<f64>,
    /// Share of time in which the cgroup was throttled by its own limit.
    pub throttled: Option<f64>,
    pub read_bytes: Option<f64>,
    pub written_bytes: Option<f64>,
    pub cpu_pressure: Stalls,
    pub memory_pressure: Stalls,
    pub io_pressure: Stalls,
}

/// Shares of time, 0 to 1, in which some or all tasks stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalls {
    pub some: Option<f64>,
    pub full: Option<f64>,
}

impl Rates {
    pub fn between(before: &Sample, now: &Sample, elapsed: Duration) -> Rates {
        let seconds = elapsed.as_secs_f64();
        let share = |before: Option<u64>, now: Option<u64>| per_second(before, now, seconds).map(|usec| usec / 1e6);
        let throttled = |sample: &Sample| Some(sample.cpu?.throttling?.throttled_usec);
        Rates {
            cpus: share(before.cpu.map(|cpu| cpu.usage_usec), now.cpu.map(|cpu| cpu.usage_usec)),
            throttled: share(throttled(before), throttled(now)),
            read_bytes: per_second(before.io.map(|io| io.read_bytes), now.io.map(|io| io.read_bytes), seconds),
            written_bytes: per_second(before.io.map(|io| io.written_bytes), now.io.map(|io| io.written_bytes), seconds),
            cpu_pressure: Stalls::between(before.cpu_pressure, now.cpu_pressure, elapsed),
            memory_pressure: Stalls::between(before.memory_pressure, now.memory_pressure, elapsed),
            io_pressure: Stalls::between(before.io_pressure, now.io_pressure, elapsed),
        }
    }
}

impl Stalls {
    pub fn between(before: Option<Pressure>, now: Option<Pressure>, elapsed: Duration) -> Stalls {
        let share = |of: fn(Pressure) -> Option<u64>| {
            let rate = per_second(before.and_then(of), now.and_then(of), elapsed.as_secs_f64())?;
            Some((rate / 1e6).min(1.0))
        };
        Stalls { some: share(|pressure| Some(pressure.some_usec)), full: share(|pressure| pressure.full_usec) }
    }
}

pub fn per_second(before: Option<u64>, now: Option<u64>, seconds: f64) -> Option<f64> {
    let grown = now?.checked_sub(before?)?;
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Cpu;

    fn sample(usage_usec: u64, some_usec: u64) -> Sample {
        let cpu = Some(Cpu { usage_usec, ..Cpu::default() });
        Sample { cpu, cpu_pressure: Some(Pressure { some_usec, full_usec: None }), ..Sample::default() }
    }

    #[test]
    fn two_samples_give_a_rate() {
        let rates = Rates::between(&sample(1_000_000, 0), &sample(4_000_000, 500_000), Duration::from_secs(2));
        assert_eq!((rates.cpus, rates.cpu_pressure.some, rates.cpu_pressure.full), (Some(1.5), Some(0.25), None));
        assert_eq!(rates.read_bytes, None);
    }

    #[test]
    fn a_counter_that_went_backwards_gives_none() {
        assert_eq!(Rates::between(&sample(5, 0), &sample(4, 0), Duration::from_secs(1)).cpus, None);
        assert_eq!(Rates::between(&sample(5, 0), &sample(6, 0), Duration::ZERO).cpus, None);
    }
}
