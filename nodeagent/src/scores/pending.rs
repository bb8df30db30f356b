//! Pods that the scheduler is about to bind. It does not say where to, so each pod's requests are expected in equal parts on the nodes that
//! had the best score for it. A guess, and one that fades: after half a minute the nodes' own figures show what became of it.

use std::collections::HashMap;
use std::time::Duration;

use metrics::score::{Pending, SHOWS_AFTER};
use tokio::time::Instant;

use super::Told;

/// Among more nodes than these one pod makes no difference.
const MOST_NODES: usize = 32;

/// More than the scheduler binds while one fades; whoever else may ask on loopback must not fill the memory.
const MOST_PODS: usize = 20_000;
const PRUNE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct OnTheirWay {
    by_node: HashMap<String, Vec<(Pending, Instant)>>,
    /// By uid: one that the scheduler tries again is expected once.
    pods: HashMap<String, Instant>,
    pruned: Option<Instant>,
}

impl OnTheirWay {
    pub fn expect(&mut self, pod: &str, requests: Pending, scores: &[Told], now: Instant) {
        self.prune(now);
        let Some(best) = scores.iter().map(|told| told.score).max() else { return };
        let best: Vec<&Told> = scores.iter().filter(|told| told.score == best).collect();
        if best.len() > MOST_NODES || self.pods.len() >= MOST_PODS || self.pods.insert(pod.to_owned(), now).is_some() {
            return;
        }
        let share = 1.0 / best.len() as f64;
        let part = Pending { cpus: requests.cpus * share, memory_bytes: requests.memory_bytes * share };
        for told in best {
            self.by_node.entry(told.node.clone()).or_default().push((part, now));
        }
    }

    fn prune(&mut self, now: Instant) {
        if self.pruned.is_some_and(|pruned| now - pruned < PRUNE_EVERY) {
            return;
        }
        self.pruned = Some(now);
        self.pods.retain(|_, since| now - *since < SHOWS_AFTER);
        self.by_node.retain(|_, expected| expected.last().is_some_and(|(_, since)| now - *since < SHOWS_AFTER));
    }

    pub fn of(&mut self, node: &str, now: Instant) -> Pending {
        let Some(expected) = self.by_node.get_mut(node) else { return Pending::default() };
        expected.retain(|(_, since)| now - *since < SHOWS_AFTER);
        let sum = expected.iter().map(|(requests, since)| Pending::of(*requests, now - *since)).fold(Pending::default(), Pending::and);
        if expected.is_empty() {
            self.by_node.remove(node);
        }
        sum
    }
}
