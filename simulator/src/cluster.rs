//! Nodes, the pods on them, and what time does to both.

use std::collections::VecDeque;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::STEP_SECONDS;
use crate::queue::{Demand, Served, serve};
use crate::workload::{BURST, GIB, Pod, Program, Requests, exponential};

/// What a node of the cluster has: three sizes, in equal parts.
const SIZES: [(u32, f64); 3] = [(4, 16.0 * GIB), (8, 32.0 * GIB), (16, 64.0 * GIB)];
/// The kubelet's default.
const MOST_PODS: usize = 110;

/// What the scheduler itself counts for a pod that asks for nothing (pkg/scheduler/util).
pub const LEAST: Requests = Requests { cpus: 0.1, memory_bytes: 200.0 * 1024.0 * 1024.0 };

/// Steps of history that are kept: five minutes, the shortest window of load-watcher.
pub const HISTORY: usize = 150;

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub cpus: u32,
    pub memory_bytes: f64,
    /// Of all pods on it.
    pub requested: Requests,
    /// The same with [`LEAST`] for those that ask for nothing.
    pub counted: Requests,
    pub memory_used_bytes: f64,
    /// CPUs that its pods would use on average if they never waited.
    pub mean_cpus: f64,
    pub served: Served,
    /// As in `/proc/pressure/cpu`.
    pub some_avg10: f64,
    /// CPUs in use, one value a step, the newest last.
    pub history: VecDeque<f32>,
    demand: Demand,
    changed: bool,
    pods: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    pod: Pod,
    random: StdRng,
    began: f64,
    bursts: bool,
    /// When a service goes from burst to calm or back; never for a job.
    turns: f64,
    /// Seconds of life, or of CPU time.
    left: f64,
}

/// A task that is done: how many times longer it took than alone.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub slowdown: f64,
}

/// A cluster of so many nodes, empty.
pub fn nodes(count: usize) -> Vec<Node> {
    let node = |number: usize| {
        let (cpus, memory_bytes) = SIZES[number % SIZES.len()];
        Node {
            name: format!("node-{number}"),
            cpus,
            memory_bytes,
            requested: Requests::default(),
            counted: Requests::default(),
            memory_used_bytes: 0.0,
            mean_cpus: 0.0,
            served: Served { speed: 1.0, ..Served::default() },
            some_avg10: 0.0,
            history: VecDeque::with_capacity(HISTORY),
            demand: Demand::default(),
            changed: true,
            pods: Vec::new(),
        }
    };
    (0..count).map(node).collect()
}

impl Node {
    pub fn fits(&self, pod: &Pod) -> bool {
        self.pods.len() < MOST_PODS
            && self.requested.cpus + pod.requests.cpus <= f64::from(self.cpus)
            && self.requested.memory_bytes + pod.requests.memory_bytes <= self.memory_bytes
    }

    pub fn bind(&mut self, pod: Pod, now: f64) {
        let mut random = StdRng::seed_from_u64(pod.seed);
        let (left, turns) = match pod.program {
            Program::Service { lives, .. } => (lives, now + exponential(&mut random, BURST.between_seconds)),
            Program::Batch { work, .. } => (work, f64::INFINITY),
        };
        self.account(&pod, 1.0);
        self.pods.push(Running { pod, random, began: now, bursts: false, turns, left });
        self.changed = true;
    }

    fn account(&mut self, pod: &Pod, sign: f64) {
        let counted = counted(pod);
        self.requested.cpus += sign * pod.requests.cpus;
        self.requested.memory_bytes += sign * pod.requests.memory_bytes;
        self.counted.cpus += sign * counted.cpus;
        self.counted.memory_bytes += sign * counted.memory_bytes;
        self.memory_used_bytes += sign * pod.memory_used_bytes;
        self.mean_cpus += sign * mean_cpus(pod);
    }

    /// What happens until `now`, a step after the last time.
    pub fn step(&mut self, now: f64, done: &mut Vec<Done>) {
        for running in &mut self.pods {
            self.changed |= running.turn(now);
        }
        if self.changed {
            self.demand = self.pods.iter().map(Running::demand).fold(Demand::default(), |all, one| Demand {
                busy: all.busy + one.busy,
                bursty: all.bursty + one.bursty,
                offered: all.offered + one.offered,
            });
            self.served = serve(self.cpus, self.demand);
            self.changed = false;
        }
        let weight = (-STEP_SECONDS / 10.0).exp();
        self.some_avg10 = weight * self.some_avg10 + (1.0 - weight) * self.served.some;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.served.cpus_used as f32);
        let speed = self.served.speed;
        let mut at = 0;
        while at < self.pods.len() {
            if self.pods[at].live(speed) {
                at += 1;
                continue;
            }
            let gone = self.pods.swap_remove(at);
            self.account(&gone.pod, -1.0);
            self.changed = true;
            if let Program::Batch { threads, work } = gone.pod.program {
                let alone = (work / f64::from(threads)).max(STEP_SECONDS);
                done.push(Done { slowdown: ((now - gone.began) / alone).max(1.0) });
            }
        }
    }

    pub fn utilisation(&self) -> f64 {
        self.served.cpus_used / f64::from(self.cpus)
    }
}

/// What the scheduler counts for a pod.
pub fn counted(pod: &Pod) -> Requests {
    let or = |value: f64, least: f64| if value > 0.0 { value } else { least };
    Requests { cpus: or(pod.requests.cpus, LEAST.cpus), memory_bytes: or(pod.requests.memory_bytes, LEAST.memory_bytes) }
}

/// CPUs that a pod would use on average if it never waited.
pub fn mean_cpus(pod: &Pod) -> f64 {
    match pod.program {
        Program::Service { mean_cpus, .. } => mean_cpus,
        Program::Batch { threads, .. } => f64::from(threads),
    }
}

impl Running {
    /// Whether it does more or less from now on.
    fn turn(&mut self, now: f64) -> bool {
        let turned = self.turns <= now;
        while self.turns <= now {
            self.bursts = !self.bursts;
            self.turns += exponential(&mut self.random, if self.bursts { BURST.seconds } else { BURST.between_seconds });
        }
        turned
    }

    fn demand(&self) -> Demand {
        match self.pod.program {
            Program::Service { mean_cpus, threads, .. } => {
                let factor = if self.bursts { BURST.factor } else { BURST.calm_factor() };
                Demand { bursty: threads, offered: mean_cpus * factor, ..Demand::default() }
            }
            Program::Batch { threads, .. } => Demand { busy: threads, ..Demand::default() },
        }
    }

    /// False when it is done.
    fn live(&mut self, speed: f64) -> bool {
        self.left -= match self.pod.program {
            Program::Service { .. } => STEP_SECONDS,
            Program::Batch { threads, .. } => STEP_SECONDS * speed * f64::from(threads),
        };
        self.left > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(threads: u32, work: f64) -> Pod {
        let requests = Requests { cpus: 1.0, memory_bytes: GIB };
        Pod { at: 0.0, requests, memory_used_bytes: GIB, program: Program::Batch { threads, work }, seed: 1 }
    }

    fn steps(node: &mut Node, count: u32) -> Vec<Done> {
        let mut done = Vec::new();
        (1..=count).for_each(|step| node.step(f64::from(step) * STEP_SECONDS, &mut done));
        done
    }

    #[test]
    fn tasks_on_a_node_that_is_too_small_take_longer_and_leave_nothing() {
        let mut node = nodes(1).remove(0);
        (0..4).for_each(|_| node.bind(batch(2, 100.0), 0.0));
        assert!(!node.fits(&batch(1, 1.0)), "four of four CPUs are asked for");
        let done = steps(&mut node, 20);
        assert!(done.is_empty() && node.served.some == 1.0 && node.some_avg10 > 0.9 && node.memory_used_bytes == 4.0 * GIB);
        // 400 seconds of CPU time on four CPUs are 100 seconds; each task alone would have taken 50.
        let done = steps(&mut node, 60);
        assert_eq!(done.len(), 4);
        assert_eq!((node.requested, node.counted, node.memory_used_bytes), Default::default());
        assert!(node.fits(&batch(1, 1.0)));
    }

    #[test]
    fn a_task_that_asks_for_nothing_is_counted_as_the_scheduler_does() {
        let pod = Pod { requests: Requests::default(), ..batch(1, 1.0) };
        assert_eq!(counted(&pod), LEAST);
        let mut node = nodes(1).remove(0);
        node.bind(pod, 0.0);
        assert_eq!((node.requested, node.counted), (Requests::default(), LEAST));
    }
}
