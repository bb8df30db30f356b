//! One cluster under one rule, from empty to the end, and what was seen on the way.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::STEP_SECONDS;
use crate::cluster::{Node, nodes};
use crate::policy::{Policy, Rule};
use crate::workload::{FILLED, Mix, Pod, pods};

/// Seconds after the services have come in which nothing is looked at yet.
const SETTLES: f64 = 600.0;
/// Steps from one look at the pressure to the next: ten seconds, the window of the average.
const LOOK_EVERY: u64 = 5;

/// kube-scheduler looks at a part of a large cluster, from where it ended the last time (schedule_one.go, numFeasibleNodesToFind).
const LEAST_NODES: usize = 100;
const LEAST_PERCENT: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub nodes: usize,
    pub seed: u64,
    /// How long is looked at.
    pub seconds: f64,
    pub mix: Mix,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Of `cpu some avg10` over nodes and time, 0 to 1.
    pub some_p99: f64,
    pub some_mean: f64,
    /// Share of the CPUs in use.
    pub utilisation: f64,
    /// Standard deviation of that share over nodes, mean over time.
    pub spread: f64,
    /// How many times longer than alone a task took that 99 of 100 beat.
    pub slowdown_p99: f64,
    /// Pods that came, and those of them for which no node had room.
    pub pods: usize,
    pub left_out: usize,
}

pub fn run(rule: Rule, settings: &Settings) -> Outcome {
    let mut nodes = nodes(settings.nodes);
    let cpus: f64 = nodes.iter().map(|node| f64::from(node.cpus)).sum();
    let (begin, end) = (FILLED + SETTLES, FILLED + SETTLES + settings.seconds);
    let pods = pods(settings.seed, cpus, settings.mix, end);
    let mut scheduler =
        Scheduler { policy: rule.policy(), random: StdRng::seed_from_u64(settings.seed), start: 0, fits: Vec::new(), scores: Vec::new() };
    let mut seen = Seen::default();
    let mut coming = pods.iter().peekable();
    for step in 1..=(end / STEP_SECONDS) as u64 {
        let now = step as f64 * STEP_SECONDS;
        let looks = now > begin;
        seen.done.clear();
        nodes.iter_mut().for_each(|node| node.step(now, &mut seen.done));
        if looks {
            seen.slowdowns.extend(seen.done.iter().map(|done| done.slowdown));
            if step % LOOK_EVERY == 0 {
                seen.look(&nodes);
            }
        }
        scheduler.policy.observe(&nodes, now);
        // A pod that comes between two steps is bound at the latter.
        while let Some(pod) = coming.next_if(|pod| pod.at < now) {
            seen.left_out += usize::from(!scheduler.schedule(pod, &mut nodes, now));
        }
    }
    seen.outcome(pods.len())
}

struct Scheduler {
    policy: Box<dyn Policy>,
    random: StdRng,
    start: usize,
    fits: Vec<usize>,
    scores: Vec<i64>,
}

impl Scheduler {
    /// Whether there was room.
    fn schedule(&mut self, pod: &Pod, nodes: &mut [Node], now: f64) -> bool {
        self.find(pod, nodes);
        self.scores.clear();
        self.policy.score(pod, nodes, &self.fits, now, &mut self.scores);
        let best = self.scores.iter().max();
        let best: Vec<usize> = self.fits.iter().zip(&self.scores).filter(|(_, score)| Some(*score) == best).map(|(at, _)| *at).collect();
        if best.is_empty() {
            return false;
        }
        let node = best[self.random.random_range(0..best.len())];
        nodes[node].bind(*pod, now);
        self.policy.bound(pod, node, now);
        true
    }

    fn find(&mut self, pod: &Pod, nodes: &[Node]) {
        self.fits.clear();
        let enough = (nodes.len() * 50usize.saturating_sub(nodes.len() / 125).max(LEAST_PERCENT) / 100).max(LEAST_NODES);
        let mut looked = 0;
        while looked < nodes.len() && self.fits.len() < enough {
            let at = (self.start + looked) % nodes.len();
            looked += 1;
            if nodes[at].fits(pod) {
                self.fits.push(at);
            }
        }
        self.start = (self.start + looked) % nodes.len();
    }
}

#[derive(Default)]
struct Seen {
    some: Vec<f32>,
    slowdowns: Vec<f64>,
    utilisation: f64,
    spread: f64,
    looks: f64,
    left_out: usize,
    done: Vec<crate::cluster::Done>,
}

impl Seen {
    fn look(&mut self, nodes: &[Node]) {
        self.some.extend(nodes.iter().map(|node| node.some_avg10 as f32));
        let cpus: f64 = nodes.iter().map(|node| f64::from(node.cpus)).sum();
        self.utilisation += nodes.iter().map(|node| node.served.cpus_used).sum::<f64>() / cpus;
        let count = nodes.len() as f64;
        let mean = nodes.iter().map(Node::utilisation).sum::<f64>() / count;
        self.spread += (nodes.iter().map(|node| (node.utilisation() - mean).powi(2)).sum::<f64>() / count).sqrt();
        self.looks += 1.0;
    }

    fn outcome(mut self, pods: usize) -> Outcome {
        self.some.sort_by(f32::total_cmp);
        self.slowdowns.sort_by(f64::total_cmp);
        let at = |length: usize| (length.saturating_sub(1) as f64 * 0.99).round() as usize;
        let mean = self.some.iter().map(|some| f64::from(*some)).sum::<f64>() / self.some.len().max(1) as f64;
        Outcome {
            some_p99: self.some.get(at(self.some.len())).copied().map_or(f64::NAN, f64::from),
            some_mean: mean,
            utilisation: self.utilisation / self.looks,
            spread: self.spread / self.looks,
            slowdown_p99: self.slowdowns.get(at(self.slowdowns.len())).copied().unwrap_or(f64::NAN),
            pods,
            left_out: self.left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Settings {
        Settings { nodes: 30, seed, seconds: 600.0, mix: Mix::default() }
    }

    #[test]
    fn the_same_seed_ends_the_same_and_pods_are_placed() {
        let run = |rule, seed| run(rule, &small(seed));
        for rule in
            [Rule::Kubernetes, Rule::TargetLoadPacking, Rule::LoadVariationRiskBalancing, Rule::Pressure { weight: 2 }, Rule::Foresight]
        {
            let outcome = run(rule, 3);
            assert_eq!(outcome, run(rule, 3), "{}", rule.name());
            assert!(outcome.pods > 100 && outcome.left_out * 10 < outcome.pods, "{}: {outcome:?}", rule.name());
            assert!((0.2..0.95).contains(&outcome.utilisation) && outcome.some_p99 > 0.0, "{}: {outcome:?}", rule.name());
        }
        assert_ne!(run(Rule::Kubernetes, 3), run(Rule::Kubernetes, 4));
    }

    #[test]
    fn a_score_of_no_weight_changes_nothing() {
        assert_eq!(run(Rule::Pressure { weight: 0 }, &small(5)), run(Rule::Kubernetes, &small(5)));
    }

    #[test]
    fn a_cluster_that_hardly_does_anything_has_no_pressure() {
        let mix = Mix { services_requested: 0.05, batch_used: 0.0 };
        let outcome = run(Rule::Kubernetes, &Settings { mix, ..small(1) });
        assert!(outcome.some_p99 < 0.05, "{outcome:?}");
    }
}
