//! How well a node would do with one more pod, as an integer from 0 to 10. docs/scheduling.md derives the formula and its constants.
//!
//! All of it is values in and values out: what the nodes told and how old it is, and which pods were bound to them since.

mod ranking;
mod smooth;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use ranking::{Ranking, Told, Why, likely};
pub use smooth::Smooth;

/// The largest score: what the scheduler takes from an extender (k8s.io/kube-scheduler, extender/v1, MaxExtenderPriority).
pub const MOST: u8 = 10;

/// Share of the score that headroom decides. The rest is left to a node without any as long as nobody waits on it.
const HEADROOM: f64 = 0.8;
/// Above these shares of time in which all tasks stand still, a node is no good at all: memory that is paged in and out hurts everything
/// on the node, I/O mostly those who ask for it.
const MEMORY_FULL_WORST: f64 = 0.2;
const IO_FULL_WORST: f64 = 0.5;

/// Figures of this age count in full, those of [`STALE`] not at all.
const FRESH: Duration = Duration::from_secs(5);
pub const STALE: Duration = Duration::from_secs(15);

/// The scheduler is told how far each node is from the best of those that it asks for: from this far on, 0. The scale is finer than the score itself
/// where it decides, and differences that mean nothing stay small beside the scheduler's other rules.
const REACH: f64 = 5.0;

/// CPUs that a pod is expected to use whose containers ask for none: one that computes uses a whole one, and few ask for nothing that do not.
pub const CPUS_OF_NO_REQUEST: f64 = 1.0;

/// How long a pod that was bound takes to show in the node's own figures.
pub const SHOWS_AFTER: Duration = Duration::from_secs(30);

/// What a node told of itself, smoothed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    pub cpus: f64,
    pub cpus_used: f64,
    pub memory_bytes: f64,
    pub memory_used_bytes: f64,
    /// Shares of time, 0 to 1; 0 where the kernel tells of none.
    pub cpu_some: f64,
    pub memory_full: f64,
    pub io_full: f64,
}

/// What pods that were bound of late will use, before the node's figures show it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pending {
    pub cpus: f64,
    pub memory_bytes: f64,
}

impl Pending {
    /// One pod by its requests and the time since it was bound: it counts less and less as the node's figures take it in.
    pub fn of(requests: Pending, bound: Duration) -> Pending {
        let left = 1.0 - (bound.as_secs_f64() / SHOWS_AFTER.as_secs_f64()).min(1.0);
        Pending { cpus: requests.cpus * left, memory_bytes: requests.memory_bytes * left }
    }

    pub fn and(self, other: Pending) -> Pending {
        Pending { cpus: self.cpus + other.cpus, memory_bytes: self.memory_bytes + other.memory_bytes }
    }
}

/// A score and what it is made of, for those who ask why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Of CPU and memory the scarcer, 0 to 1.
    pub headroom: f64,
    /// What the pressures leave, 0 to 1.
    pub calm: f64,
    /// 0 to 10, before it is made an integer.
    pub exact: f64,
}

pub fn score(load: Load, pending: Pending) -> Score {
    let free = |used: f64, of: f64| if of > 0.0 { (1.0 - used / of).clamp(0.0, 1.0) } else { 0.0 };
    let cpu = free(load.cpus_used + pending.cpus, load.cpus);
    let memory = free(load.memory_used_bytes + pending.memory_bytes, load.memory_bytes);
    let left = |share: f64, worst: f64| 1.0 - (share / worst).clamp(0.0, 1.0);
    let (headroom, calm) =
        (cpu.min(memory), left(load.cpu_some, 1.0) * left(load.memory_full, MEMORY_FULL_WORST) * left(load.io_full, IO_FULL_WORST));
    Score { headroom, calm, exact: f64::from(MOST) * calm * (1.0 - HEADROOM + HEADROOM * headroom) }
}

/// The exact scores of all nodes that are compared, by how old their figures are: the older, the closer to what the others have in the middle,
/// so that a node of which nothing is known is neither sought nor shunned.
pub fn aged(scores: &[(f64, Duration)]) -> Vec<f64> {
    let mut fresh: Vec<f64> = scores.iter().filter(|(_, age)| *age < STALE).map(|(score, _)| *score).collect();
    fresh.sort_by(f64::total_cmp);
    let middle = fresh.get(fresh.len() / 2).copied().unwrap_or(f64::from(MOST) / 2.0);
    let trust = |age: Duration| 1.0 - (age.saturating_sub(FRESH).as_secs_f64() / (STALE - FRESH).as_secs_f64()).min(1.0);
    scores.iter().map(|(score, age)| middle + trust(*age) * (score - middle)).collect()
}

/// The integer that people see.
pub fn whole(exact: f64) -> u8 {
    exact.clamp(0.0, f64::from(MOST)).round() as u8
}

/// How nodes with these scores compare with each other: the best has [`MOST`].
pub fn compared(exact: &[f64]) -> Vec<u8> {
    let best = exact.iter().copied().fold(0.0, f64::max);
    exact.iter().map(|exact| whole(f64::from(MOST) * (1.0 - (best - exact) / REACH))).collect()
}
