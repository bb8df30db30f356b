//! Rates over the last seconds, of counters that somebody tells now and then: those that did not change need not be told again.
//!
//! An autoscaler looks four times a minute. A rate of one second would show it a fifteenth of what happened; one over [`WINDOW`] leaves nothing out,
//! and still moves with every sweep.

use std::collections::VecDeque;
use std::time::Duration;

/// As long as the horizontal autoscaler waits from one look to the next (kube-controller-manager, --horizontal-pod-autoscaler-sync-period).
pub const WINDOW: Duration = Duration::from_secs(15);
/// What is closer together than this is kept as one: the window is so much longer at most.
const STEP: Duration = Duration::from_secs(3);

/// Microseconds since the cgroup was made; what the kernel does not tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of all CPUs together.
    pub cpu: Option<u64>,
    /// In which some, or all, tasks stood still.
    pub cpu_some: Option<u64>,
    pub memory_full: Option<u64>,
    pub io_full: Option<u64>,
}

impl Counters {
    fn all(&self) -> [Option<u64>; 4] {
        [self.cpu, self.cpu_some, self.memory_full, self.io_full]
    }

    /// Counters that ran back are another cgroup's, or of another boot.
    fn ran_back(&self, before: &Counters) -> bool {
        self.all().into_iter().zip(before.all()).any(|(now, before)| matches!((now, before), (Some(now), Some(before)) if now < before))
    }
}

/// Shares of time; of the CPU, how many of them were in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// What it is the average of, up to the newest sweep.
    pub over: Duration,
    pub cpus: Option<f64>,
    pub cpu_some: Option<f64>,
    pub memory_full: Option<f64>,
    pub io_full: Option<f64>,
}

/// Counters that stood still from one moment to another. Moments are of the machine that tells, since 1970.
#[derive(Debug, Clone, Copy)]
struct Stand {
    since: Duration,
    until: Duration,
    counters: Counters,
}

/// The stands that matter, oldest first: no more than [`WINDOW`] has [`STEP`]s, and three.
#[derive(Debug, Clone, Default)]
pub struct Window {
    stands: VecDeque<Stand>,
}

impl Window {
    /// What is told at a moment. What was told last held at least until the sweep before, which would have told otherwise.
    pub fn add(&mut self, counters: Counters, at: Duration, sweep_before: Duration) {
        if let Some(last) = self.stands.back_mut() {
            if at <= last.until || counters.ran_back(&last.counters) {
                self.stands.clear();
            } else if counters == last.counters {
                last.until = at;
                return;
            } else if sweep_before < at {
                last.until = last.until.max(sweep_before);
            }
        }
        if let [.., before, last] = self.stands.make_contiguous()
            && last.until - before.until < STEP
        {
            self.stands.pop_back();
        }
        self.stands.push_back(Stand { since: at, until: at, counters });
        let edge = at.saturating_sub(WINDOW);
        while self.stands.get(1).is_some_and(|second| second.since <= edge) {
            self.stands.pop_front();
        }
    }

    /// Up to the machine's newest sweep; none before there were two.
    pub fn average(&self, newest_sweep: Duration) -> Option<Average> {
        let last = self.stands.back()?;
        let now = newest_sweep.max(last.until);
        let edge = now.saturating_sub(WINDOW);
        let base = self.stands.iter().rev().find(|stand| stand.since <= edge).or(self.stands.front())?;
        let until = if base.since == last.since { now } else { base.until };
        let over = now - edge.clamp(base.since, until);
        if over.is_zero() {
            return None;
        }
        let share = |before: Option<u64>, now: Option<u64>| Some(now?.checked_sub(before?)? as f64 / 1e6 / over.as_secs_f64());
        Some(Average {
            over,
            cpus: share(base.counters.cpu, last.counters.cpu),
            cpu_some: share(base.counters.cpu_some, last.counters.cpu_some),
            memory_full: share(base.counters.memory_full, last.counters.memory_full),
            io_full: share(base.counters.io_full, last.counters.io_full),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGUN: Duration = Duration::from_secs(1_800_000_000);

    fn at(second: u64) -> Duration {
        BEGUN + Duration::from_secs(second)
    }

    fn cpu(usec: u64) -> Counters {
        Counters { cpu: Some(usec), ..Counters::default() }
    }

    /// One sweep a second that used so many microseconds; those that used none are not told.
    fn told(uses: impl IntoIterator<Item = u64>) -> (Window, Duration) {
        let (mut window, mut used, mut now) = (Window::default(), 0, at(0));
        window.add(cpu(0), now, Duration::ZERO);
        for usec in uses {
            let before = now;
            now += Duration::from_secs(1);
            used += usec;
            if usec > 0 {
                window.add(cpu(used), now, before);
            }
        }
        (window, now)
    }

    fn cpus((window, now): &(Window, Duration)) -> Option<f64> {
        window.average(*now)?.cpus
    }

    #[test]
    fn a_first_sweep_is_no_rate_and_a_second_one_is() {
        assert_eq!(told([]).0.average(at(0)), None);
        assert_eq!(cpus(&told([500_000])), Some(0.5));
        assert_eq!(cpus(&told([0])), Some(0.0));
    }

    #[test]
    fn a_burst_counts_for_as_long_as_the_window_is_and_then_no_more() {
        let quiet = || std::iter::repeat_n(0, 60);
        for (after, expected) in [(0, 1.5 / 15.0), (10, 1.5 / 15.0), (14, 1.5 / 15.0), (15, 0.0), (60, 0.0)] {
            let found = cpus(&told(quiet().chain([1_500_000]).chain(std::iter::repeat_n(0, after))));
            assert_eq!(found, Some(expected), "{after} s after it");
        }
    }

    #[test]
    fn counters_that_ran_back_and_a_clock_that_was_put_back_begin_anew() {
        let (mut window, now) = told([100, 100, 100]);
        window.add(cpu(5), now + Duration::from_secs(1), now);
        assert_eq!(window.average(now + Duration::from_secs(1)), None);
        let (mut window, now) = told([100, 100, 100]);
        window.add(cpu(400), at(1), at(0));
        assert_eq!(window.average(at(1)), None);
        assert!(now > at(1));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_absent() {
        let average = told([100]).0.average(at(1)).unwrap();
        assert_eq!((average.cpu_some, average.memory_full, average.io_full), (None, None, None));
    }

    proptest! {
        /// Few stands, a window of the promised length, and a rate that is the truth over it.
        #[test]
        fn it_keeps_little_and_tells_the_truth(uses in proptest::collection::vec(prop_oneof![Just(0), 1_u64..4_000_000], 1..100)) {
            let (window, now) = told(uses.iter().copied());
            prop_assert!(window.stands.len() <= 8, "{} stands", window.stands.len());
            let average = window.average(now).unwrap();
            let seconds = average.over.as_secs() as usize;
            prop_assert!(seconds <= 18 && seconds >= 15.min(uses.len()), "{seconds} s of {}", uses.len());
            let used: u64 = uses.iter().rev().take(seconds).sum();
            let expected = used as f64 / 1e6 / seconds as f64;
            prop_assert!((average.cpus.unwrap() - expected).abs() < 1e-9, "{:?}, expected {expected}", average.cpus);
        }
    }
}
