//! Which pods come when, what they ask for and what they really do: drawn from a seed by the figures of public traces, and by assumptions where those
//! tell nothing. docs/simulator.md has the sources.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal, Zipf};

pub const GIB: f64 = 1_073_741_824.0;

/// How much of the cluster is asked for and used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// CPUs that services would ask for if all of them asked, as a share of the cluster's.
    pub services_requested: f64,
    /// CPUs that batch jobs use, as a share of the cluster's.
    pub batch_used: f64,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { services_requested: 0.7, batch_used: 0.25 }
    }
}

/// CPUs that one pod of a service asks for, and how many of a hundred services do.
const SERVICE_CPUS: [(f64, u32); 6] = [(0.1, 20), (0.25, 25), (0.5, 25), (1.0, 20), (2.0, 8), (4.0, 2)];
/// Services whose pods ask for nothing, though they use as much as others.
const SERVICES_WITHOUT_REQUESTS: f64 = 0.2;
/// What is used of what is asked for: half of all containers use less than 0.3 of it, and some far more than all of it.
const USED_MEDIAN: f64 = 0.3;
const USED_SIGMA: f64 = 0.8;
/// Threads that serve requests, for each CPU that is asked for.
const THREADS_PER_CPU: f64 = 8.0;
const LEAST_THREADS: f64 = 4.0;
/// Memory for each CPU, and the share of what is asked for that is used.
const MEMORY_PER_CPU: f64 = 2.0 * GIB;
const MEMORY_SIGMA: f64 = 0.5;
const MEMORY_USED: f64 = 0.8;
/// A service's pods live this long on average, in seconds: releases replace them.
const SERVICE_LIVES: f64 = 7200.0;
/// In this time after the start, in seconds, the services come that are there already.
pub const FILLED: f64 = 600.0;

/// Pods of one service, and tasks of one job, are distributed as Zipf has it, with this exponent.
const REPLICAS: (f64, f64) = (50.0, 1.2);
const TASKS: (f64, f64) = (100.0, 1.2);
/// The pods of a service or a job come one after the other, this many seconds apart: the controller manager makes 20 a second (kube-api-qps).
const APART: f64 = 0.05;

/// CPU time of one task of a job, in seconds: Pareto's distribution between two bounds.
const WORK_EXPONENT: f64 = 0.69;
const WORK: (f64, f64) = (20.0, 3600.0);
/// Threads of one task, each of which computes without end, and how many of a hundred jobs have them.
const BATCH_THREADS: [(u32, u32); 3] = [(1, 60), (2, 25), (4, 15)];
/// Jobs that ask for nothing; others ask for a share of their threads.
const JOBS_WITHOUT_REQUESTS: f64 = 0.5;
const ASKED_MEDIAN: f64 = 0.5;
const ASKED_SIGMA: f64 = 0.5;
const BATCH_MEMORY: f64 = 0.5 * GIB;

/// A service does more at times: so many times its mean, for so many seconds on average, after so many seconds of less.
pub const BURST: Burst = Burst { factor: 3.25, seconds: 30.0, between_seconds: 270.0 };

#[derive(Debug, Clone, Copy)]
pub struct Burst {
    pub factor: f64,
    pub seconds: f64,
    pub between_seconds: f64,
}

impl Burst {
    /// Times its mean that a service does when it has no burst.
    pub fn calm_factor(&self) -> f64 {
        let share = self.seconds / (self.seconds + self.between_seconds);
        (1.0 - share * self.factor) / (1.0 - share)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Requests {
    pub cpus: f64,
    pub memory_bytes: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pod {
    /// Seconds since the start.
    pub at: f64,
    pub requests: Requests,
    pub memory_used_bytes: f64,
    pub program: Program,
    /// Of what it does over time.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Program {
    /// Threads that sleep and wake, for as many seconds.
    Service { mean_cpus: f64, threads: u32, lives: f64 },
    /// Threads that compute without end until so many seconds of CPU time are used.
    Batch { threads: u32, work: f64 },
}

/// The pods of a cluster with so many CPUs until `end` seconds after the start, the first first.
pub fn pods(seed: u64, cluster_cpus: f64, mix: Mix, end: f64) -> Vec<Pod> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pods = Vec::new();
    services(&mut random, cluster_cpus * mix.services_requested, end, &mut pods);
    jobs(&mut random, cluster_cpus * mix.batch_used, end, &mut pods);
    pods.retain(|pod| pod.at < end);
    pods.sort_by(|a, b| a.at.total_cmp(&b.at));
    pods
}

fn services(random: &mut StdRng, cpus: f64, end: f64, pods: &mut Vec<Pod>) {
    let mut there = 0.0;
    while there < cpus {
        let at = random.random_range(0.0..FILLED);
        there += service(random, at, pods);
    }
    // As many come as go.
    let mut later = 0.0;
    while later < cpus * (end - FILLED) / SERVICE_LIVES {
        let at = random.random_range(FILLED..end);
        later += service(random, at, pods);
    }
}

/// The CPUs that it would ask for if it asked.
fn service(random: &mut StdRng, at: f64, pods: &mut Vec<Pod>) -> f64 {
    let cpus = one_of(random, &SERVICE_CPUS);
    let used = cpus * USED_MEDIAN * lognormal(random, USED_SIGMA);
    let memory = cpus * MEMORY_PER_CPU * lognormal(random, MEMORY_SIGMA);
    let asks = !random.random_bool(SERVICES_WITHOUT_REQUESTS);
    let replicas = zipf(random, REPLICAS);
    for replica in 0..replicas {
        let threads = (cpus * THREADS_PER_CPU).max(LEAST_THREADS).max(used * BURST.factor * 2.0).ceil();
        pods.push(Pod {
            at: at + f64::from(replica) * APART,
            requests: if asks { Requests { cpus, memory_bytes: memory } } else { Requests::default() },
            memory_used_bytes: memory * MEMORY_USED,
            program: Program::Service { mean_cpus: used, threads: threads as u32, lives: exponential(random, SERVICE_LIVES) },
            seed: random.random(),
        });
    }
    cpus * f64::from(replicas)
}

fn jobs(random: &mut StdRng, cpus: f64, end: f64, pods: &mut Vec<Pod>) {
    let mut work = 0.0;
    while work < cpus * end {
        work += job(random, end, pods);
    }
}

/// The CPU time that its tasks use together, in seconds.
fn job(random: &mut StdRng, end: f64, pods: &mut Vec<Pod>) -> f64 {
    let at = random.random_range(0.0..end);
    let threads = one_of(random, &BATCH_THREADS);
    let asks = !random.random_bool(JOBS_WITHOUT_REQUESTS);
    let asked = if asks { f64::from(threads) * ASKED_MEDIAN * lognormal(random, ASKED_SIGMA) } else { 0.0 };
    let (tasks, mean) = (zipf(random, TASKS), pareto(random));
    let mut sum = 0.0;
    for task in 0..tasks {
        let work = mean * random.random_range(0.8..1.2);
        let memory = BATCH_MEMORY * f64::from(threads);
        pods.push(Pod {
            at: at + f64::from(task) * APART,
            requests: if asks { Requests { cpus: asked, memory_bytes: memory } } else { Requests::default() },
            memory_used_bytes: memory,
            program: Program::Batch { threads, work },
            seed: random.random(),
        });
        sum += work;
    }
    sum
}

fn one_of<T: Copy>(random: &mut StdRng, table: &[(T, u32)]) -> T {
    let mut at = random.random_range(0..table.iter().map(|(_, share)| share).sum());
    for (value, share) in table {
        if at < *share {
            return *value;
        }
        at -= share;
    }
    table[0].0
}

/// With the median 1.
fn lognormal(random: &mut StdRng, sigma: f64) -> f64 {
    LogNormal::new(0.0, sigma).map_or(1.0, |distribution| distribution.sample(random))
}

pub fn exponential(random: &mut StdRng, mean: f64) -> f64 {
    Exp::new(1.0 / mean).map_or(mean, |distribution| distribution.sample(random))
}

fn zipf(random: &mut StdRng, (most, exponent): (f64, f64)) -> u32 {
    Zipf::new(most, exponent).map_or(1, |distribution| distribution.sample(random) as u32)
}

/// Between the bounds, by the inverse of the distribution function.
fn pareto(random: &mut StdRng) -> f64 {
    let (least, most) = WORK;
    let share: f64 = random.random();
    let cut = 1.0 - (least / most).powf(WORK_EXPONENT);
    least * (1.0 - share * cut).powf(-1.0 / WORK_EXPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seed: u64) -> Vec<Pod> {
        pods(seed, 4000.0, Mix::default(), 4000.0)
    }

    #[test]
    fn a_seed_makes_the_same_pods_again_and_another_makes_others() {
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert!(all(1).is_sorted_by(|a, b| a.at <= b.at));
    }

    #[test]
    fn requests_lie_as_the_reports_have_it() {
        let pods: Vec<Pod> = (0..20).flat_map(all).collect();
        let services = pods.iter().filter_map(|pod| match pod.program {
            Program::Service { mean_cpus, .. } if pod.requests.cpus > 0.0 => Some(mean_cpus / pod.requests.cpus),
            _ => None,
        });
        let ratios: Vec<f64> = services.collect();
        let share = |below: f64| ratios.iter().filter(|ratio| **ratio < below).count() as f64 / ratios.len() as f64;
        // Half of the containers use less than 30 % of what they ask for.
        assert!((0.42..0.56).contains(&share(0.3)), "{}", share(0.3));
        assert!((0.88..0.98).contains(&share(1.0)), "{}", share(1.0));
    }

    #[test]
    fn few_jobs_do_most_of_the_work() {
        let mut work: Vec<f64> = (0..10)
            .flat_map(all)
            .filter_map(|pod| match pod.program {
                Program::Batch { work, .. } => Some(work),
                Program::Service { .. } => None,
            })
            .collect();
        work.sort_by(|a, b| b.total_cmp(a));
        let sum = |tasks: &[f64]| tasks.iter().sum::<f64>();
        let share = sum(&work[..work.len() / 10]) / sum(&work);
        assert!(share > 0.4, "a tenth of the tasks does {share} of the work");
    }

    #[test]
    fn a_service_does_its_mean_on_average() {
        let share = BURST.seconds / (BURST.seconds + BURST.between_seconds);
        let mean = share * BURST.factor + (1.0 - share) * BURST.calm_factor();
        assert!((mean - 1.0).abs() < 1e-12 && BURST.calm_factor() > 0.0);
    }
}
