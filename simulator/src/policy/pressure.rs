//! The node score beside kube-scheduler's own rules: the agent's ranking, asked as the scheduler asks its extender.

use std::collections::VecDeque;
use std::time::Duration;

use metrics::score::{CPUS_OF_NO_REQUEST, Load, Pending, Ranking, likely};

use super::kubernetes::Kubernetes;
use super::{HEARS_AFTER, Policy};
use crate::cluster::{Node, counted};
use crate::workload::Pod;

/// What the scheduler multiplies an extender's score with, besides the weight: its own rules go to 100, an extender's to 10 (schedule_one.go).
const OF_EXTENDERS: i64 = 10;

#[derive(Debug)]
pub struct Pressure {
    weight: i64,
    ranking: Ranking,
    names: Vec<String>,
    pods: u64,
    /// Pods that were bound, where, and when that is heard of.
    bound: VecDeque<(u64, usize, f64)>,
}

impl Pressure {
    pub fn new(weight: i64) -> Pressure {
        Pressure { weight, ranking: Ranking::default(), names: Vec::new(), pods: 0, bound: VecDeque::new() }
    }

    fn hear(&mut self, now: f64) {
        while let Some((pod, node, _)) = self.bound.pop_front_if(|(_, _, heard)| *heard <= now) {
            self.ranking.bound(&pod.to_string(), &self.names[node], time(now));
        }
    }
}

fn time(now: f64) -> Duration {
    Duration::from_secs_f64(now)
}

impl Policy for Pressure {
    fn observe(&mut self, nodes: &[Node], now: f64) {
        if self.names.is_empty() {
            self.names = nodes.iter().map(|node| node.name.clone()).collect();
        }
        for node in nodes {
            let load = Load {
                cpus: f64::from(node.cpus),
                cpus_used: node.served.cpus_used,
                memory_bytes: node.memory_bytes,
                memory_used_bytes: node.memory_used_bytes,
                cpu_some: node.served.some,
                ..Load::default()
            };
            self.ranking.add(&node.name, load, time(now));
        }
    }

    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], now: f64, scores: &mut Vec<i64>) {
        self.hear(pod.at);
        Kubernetes.score(pod, nodes, fits, now, scores);
        let names: Vec<&str> = fits.iter().map(|at| nodes[*at].name.as_str()).collect();
        let cpus = if pod.requests.cpus > 0.0 { pod.requests.cpus } else { CPUS_OF_NO_REQUEST };
        let requests = Pending { cpus, memory_bytes: counted(pod).memory_bytes };
        let compared = self.ranking.compare(&names, requests, time(now));
        scores.iter_mut().zip(&compared).for_each(|(score, told)| *score += self.weight * OF_EXTENDERS * i64::from(*told));
        self.pods += 1;
        self.ranking.expect(&self.pods.to_string(), requests, &likely(&names, &compared), time(now));
    }

    fn bound(&mut self, pod: &Pod, node: usize, _: f64) {
        self.bound.push_back((self.pods, node, pod.at + HEARS_AFTER));
    }
}
