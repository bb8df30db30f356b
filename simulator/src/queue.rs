//! How long tasks wait for a CPU: what the kernel would tell as `cpu some`, of a machine on which so many threads compute without end and so many
//! sleep and wake.
//!
//! The run queues are one queue with processor sharing: the kernel shares CPUs out in slices of milliseconds and moves waiting tasks to idle CPUs.
//! Threads that sleep and wake are its customers, of whom there is a finite number, and the others stay for ever. The number of runnable threads is
//! then a birth-death chain, whose stationary distribution does not depend on how long bursts are, only on their mean (processor sharing).
//!
//! The kernel's `some` of the whole machine is the mean over CPUs of the share of time in which a task waits on that CPU, weighted with the time that
//! the CPU is not idle (kernel/sched/psi.c, collect_percpu_times). CPUs are alike here, so the weights are as well: with `n` runnable threads on
//! `c` CPUs, `min(n - c, c)` CPUs have somebody waiting.

/// What the threads of a machine would do if they never waited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// Threads that compute without end.
    pub busy: u32,
    /// Threads that sleep and wake.
    pub bursty: u32,
    /// CPUs that the bursty threads would use together.
    pub offered: f64,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Served {
    /// Share of time in which a task waits for a CPU, 0 to 1.
    pub some: f64,
    /// CPUs in use.
    pub cpus_used: f64,
    /// CPUs that one busy thread gets, 0 to 1.
    pub speed: f64,
}

/// Probabilities that are smaller than this one's share of the sum change nothing that is looked at.
const NEGLIGIBLE: f64 = 1e-9;

pub fn serve(cpus: u32, demand: Demand) -> Served {
    let (c, busy, threads) = (f64::from(cpus), f64::from(demand.busy), f64::from(demand.bursty));
    // Share of its time that one of the bursty threads computes; a thread uses one CPU at most.
    let duty = if demand.bursty == 0 { 0.0 } else { (demand.offered / threads).clamp(0.0, 0.999) };
    let wakes = duty / (1.0 - duty);
    let (mut weight, mut sum) = (1.0, 0.0);
    let mut sums = Served::default();
    let mut shrinks = false;
    for n in 0..=demand.bursty {
        let runnable = busy + f64::from(n);
        sum += weight;
        sums.some += weight * (runnable - c).clamp(0.0, c) / c;
        sums.cpus_used += weight * runnable.min(c);
        sums.speed += weight * if runnable > c { c / runnable } else { 1.0 };
        if shrinks && weight < NEGLIGIBLE * sum {
            break;
        }
        let next = f64::from(n + 1);
        let leaves = next * (c / (busy + next)).min(1.0);
        let factor = (threads - f64::from(n)) * wakes / leaves;
        shrinks = factor < 1.0;
        weight *= factor;
        // Hundreds of threads on one CPU are beyond what a float holds; only proportions count.
        if weight > 1e100 {
            for value in [&mut weight, &mut sum, &mut sums.some, &mut sums.cpus_used, &mut sums.speed] {
                *value /= 1e100;
            }
        }
    }
    // A sum of many floats may miss the whole by the last digit.
    Served { some: (sums.some / sum).min(1.0), cpus_used: (sums.cpus_used / sum).min(c), speed: (sums.speed / sum).min(1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(value: f64, expected: f64, within: f64) {
        assert!((value - expected).abs() <= within, "{value} instead of {expected}");
    }

    #[test]
    fn threads_that_compute_without_end_wait_for_what_is_missing() {
        let some = |cpus, busy| serve(cpus, Demand { busy, ..Demand::default() }).some;
        assert_eq!((some(4, 4), some(4, 5), some(4, 6), some(4, 8), some(4, 100)), (0.0, 0.25, 0.5, 1.0, 1.0));
    }

    #[test]
    fn many_threads_that_seldom_wake_are_the_queue_of_the_textbook() {
        // M/M/1: somebody waits where two or more are there, which is the square of the utilisation.
        let served = serve(1, Demand { busy: 0, bursty: 20_000, offered: 0.5 });
        close(served.some, 0.25, 0.001);
        close(served.cpus_used, 0.5, 0.001);
        // M/M/2 at 0.75: Erlang's C is 9/14, and the first of those who wait makes half of it, the second the other half.
        let served = serve(2, Demand { busy: 0, bursty: 20_000, offered: 1.5 });
        close(served.some, 9.0 / 14.0 * (0.75 + 0.75 * 0.75) / 2.0, 0.001);
    }

    #[test]
    fn a_busy_thread_shares_with_those_that_wake() {
        let served = serve(1, Demand { busy: 1, bursty: 1, offered: 0.5 });
        // Awake two thirds of the time, since it takes twice as long; in that time both wait by turns.
        close(served.some, 2.0 / 3.0, 1e-9);
        close(served.speed, 2.0 / 3.0, 1e-9);
        close(served.cpus_used, 1.0, 1e-9);
    }

    proptest! {
        #[test]
        fn more_demand_never_waits_less(cpus in 1..64u32, busy in 0..100u32, bursty in 0..300u32, offered in 0.0..100.0f64) {
            let served = serve(cpus, Demand { busy, bursty, offered });
            prop_assert!((0.0..=1.0).contains(&served.some) && (0.0..=1.0).contains(&served.speed), "{:?}", served);
            prop_assert!(served.cpus_used <= f64::from(cpus) + 1e-9);
            let more = serve(cpus, Demand { busy: busy + 1, bursty, offered });
            prop_assert!(more.some >= served.some - 1e-9 && more.speed <= served.speed + 1e-9, "{:?} {:?}", served, more);
            let fewer_cpus = serve(cpus.max(2) - 1, Demand { busy, bursty, offered });
            prop_assert!(cpus == 1 || fewer_cpus.some >= served.some - 1e-9);
        }
    }
}
