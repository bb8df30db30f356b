//! What is known of all nodes over time, and the pods that are on their way to them. The agent asks it for the scheduler, the simulator for its
//! own: both get the very same integers.
//!
//! Time is what has passed since a moment that the caller chose, and never runs backwards.

use std::collections::HashMap;
use std::time::Duration;

use super::{Load, Pending, SHOWS_AFTER, Score, Smooth, aged, score, told};

/// Among more nodes than these one pod makes no difference.
const MOST_NODES: usize = 32;
/// More than the scheduler binds while one fades; whoever else may ask on loopback must not fill the memory.
const MOST_PODS: usize = 20_000;
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// Of a node that never told anything: as old as can be.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

#[derive(Debug, Default)]
pub struct Ranking {
    nodes: HashMap<Box<str>, Known>,
    /// Pods that are expected, by uid: one that the scheduler tries again counts once.
    pods: HashMap<Box<str>, Duration>,
    pruned: Duration,
}

#[derive(Debug)]
struct Known {
    smooth: Smooth,
    newest: Duration,
    /// The integer that was told last.
    told: Option<u8>,
    /// Parts of pods that may come here, the oldest first, and since when.
    expected: Vec<(Pending, Duration)>,
}

/// One node's score, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    pub score: u8,
    /// None of a node that told nothing.
    pub why: Option<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Why {
    pub made_of: Score,
    pub load: Load,
    pub pending: Pending,
    pub age: Duration,
}

impl Ranking {
    /// What a node tells of itself.
    pub fn add(&mut self, node: &str, load: Load, now: Duration) {
        match self.nodes.get_mut(node) {
            Some(known) => {
                known.smooth.add(load, now.saturating_sub(known.newest));
                known.newest = now;
            }
            None => {
                let mut smooth = Smooth::default();
                smooth.add(load, Duration::ZERO);
                self.nodes.insert(node.into(), Known { smooth, newest: now, told: None, expected: Vec::new() });
            }
        }
    }

    /// A node that left the cluster.
    pub fn remove(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Every node that told anything, by name.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.nodes.keys().map(|name| name.as_ref().to_owned()).collect();
        names.sort();
        names
    }

    /// These nodes' scores, in their order.
    pub fn of<N: AsRef<str>>(&mut self, nodes: &[N], now: Duration) -> Vec<Told> {
        let why: Vec<Option<Why>> = nodes.iter().map(|node| self.nodes.get_mut(node.as_ref())?.why(now)).collect();
        let exact: Vec<(f64, Duration)> = why.iter().map(|why| why.map_or((0.0, NEVER), |why| (why.made_of.exact, why.age))).collect();
        let integer = |known: Option<&mut Known>, exact: f64| {
            let Some(known) = known else { return told(exact, None) };
            let score = told(exact, known.told);
            known.told = Some(score);
            score
        };
        let told = |((node, why), exact): ((&N, Option<Why>), f64)| Told { score: integer(self.nodes.get_mut(node.as_ref()), exact), why };
        nodes.iter().zip(why).zip(aged(&exact)).map(told).collect()
    }

    /// A pod that will be bound to one of `likely`. Which one nobody says, so each of them gets an equal part of it: a guess, and one that fades,
    /// since after half a minute the nodes' own figures show what became of it.
    pub fn expect<N: AsRef<str>>(&mut self, pod: &str, requests: Pending, likely: &[N], now: Duration) {
        self.prune(now);
        let fits = (1..=MOST_NODES).contains(&likely.len()) && self.pods.len() < MOST_PODS;
        if !fits || self.pods.insert(pod.into(), now).is_some() {
            return;
        }
        let share = 1.0 / likely.len() as f64;
        let part = Pending { cpus: requests.cpus * share, memory_bytes: requests.memory_bytes * share };
        for node in likely {
            if let Some(known) = self.nodes.get_mut(node.as_ref()) {
                known.expected.push((part, now));
            }
        }
    }

    fn prune(&mut self, now: Duration) {
        if now.saturating_sub(self.pruned) < PRUNE_EVERY {
            return;
        }
        self.pruned = now;
        self.pods.retain(|_, since| now.saturating_sub(*since) < SHOWS_AFTER);
        self.nodes.values_mut().for_each(|known| known.forget(now));
    }
}

impl Known {
    fn why(&mut self, now: Duration) -> Option<Why> {
        let load = self.smooth.load()?;
        self.forget(now);
        let pending = self.expected.iter().map(|(part, since)| Pending::of(*part, now.saturating_sub(*since)));
        let pending = pending.fold(Pending::default(), Pending::and);
        Some(Why { made_of: score(load, pending), load, pending, age: now.saturating_sub(self.newest) })
    }

    fn forget(&mut self, now: Duration) {
        self.expected.retain(|(_, since)| now.saturating_sub(*since) < SHOWS_AFTER);
    }
}

/// The nodes that a pod will most likely be bound to: those with the best score. No more than one too many are named.
pub fn likely<'n, N: AsRef<str>>(nodes: &'n [N], told: &[Told]) -> Vec<&'n str> {
    let best = told.iter().map(|told| told.score).max();
    let best = nodes.iter().zip(told).filter(|(_, told)| Some(told.score) == best);
    best.map(|(node, _)| node.as_ref()).take(MOST_NODES + 1).collect()
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];

    fn idle() -> Load {
        Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() }
    }

    fn integers(ranking: &mut Ranking, now: Duration) -> Vec<u8> {
        ranking.of(&NAMES, now).into_iter().map(|told| told.score).collect()
    }

    #[test]
    fn a_burst_of_pods_is_spread_before_any_of_them_shows() {
        let (mut ranking, now) = (Ranking::default(), Duration::from_secs(100));
        ranking.add("a", idle(), now);
        ranking.add("b", Load { cpus_used: 1.0, ..idle() }, now);
        let mut got = [0, 0];
        for pod in 0..10 {
            let told = ranking.of(&NAMES, now);
            // Among equals the scheduler draws lots.
            let best = match told[0].score.cmp(&told[1].score) {
                Ordering::Greater => 0,
                Ordering::Less => 1,
                Ordering::Equal => pod % 2,
            };
            got[best] += 1;
            ranking.expect(&pod.to_string(), Pending { cpus: 0.5, memory_bytes: 0.0 }, &likely(&NAMES, &told), now);
        }
        assert!(got[0] > 0 && got[1] > 0 && got[0] > got[1], "{got:?}");
        // It fades as the nodes' own figures would take it in.
        let later = now + Duration::from_secs(31);
        ranking.add("a", idle(), later);
        assert_eq!(ranking.of(&NAMES, later)[0].why.map(|why| why.pending), Some(Pending::default()));
    }

    #[test]
    fn a_pod_that_is_tried_again_counts_once() {
        let (mut ranking, now) = (Ranking::default(), Duration::ZERO);
        ranking.add("a", idle(), now);
        for _ in 0..100 {
            ranking.expect("the same", Pending { cpus: 0.5, memory_bytes: 0.0 }, &["a"], now);
        }
        assert_eq!(ranking.of(&["a"], now)[0].why.map(|why| why.pending.cpus), Some(0.5));
    }

    #[test]
    fn a_pod_that_may_go_anywhere_is_expected_nowhere() {
        let (mut ranking, now) = (Ranking::default(), Duration::ZERO);
        let names: Vec<String> = (0..100).map(|number| format!("node-{number}")).collect();
        names.iter().for_each(|name| ranking.add(name, idle(), now));
        let told = ranking.of(&names, now);
        ranking.expect("one", Pending { cpus: 4.0, memory_bytes: 0.0 }, &likely(&names, &told), now);
        assert!(ranking.of(&names, now).iter().all(|told| told.why.is_some_and(|why| why.pending == Pending::default())));
    }

    #[test]
    fn a_node_that_falls_silent_becomes_one_of_many() {
        let (mut ranking, now) = (Ranking::default(), Duration::from_secs(7));
        ranking.add("a", Load { cpus_used: 4.0, cpu_some: 1.0, ..idle() }, now);
        ranking.add("b", idle(), now);
        assert_eq!(integers(&mut ranking, now), [0, 10]);
        let later = now + Duration::from_secs(20);
        ranking.add("b", idle(), later);
        assert_eq!(integers(&mut ranking, later), [10, 10]);
        ranking.remove("a");
        assert_eq!(ranking.names(), ["b"]);
    }
}
