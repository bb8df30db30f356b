//! What is known of all nodes over time, and the pods that are on their way to them. The agent asks it for the scheduler, the simulator for its
//! own: both get the very same integers.
//!
//! Time is what has passed since a moment that the caller chose, and never runs backwards.

use std::collections::HashMap;
use std::time::Duration;

use super::{Load, Pending, SHOWS_AFTER, Score, Smooth, aged, compared, score, whole};

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
    pods: HashMap<Box<str>, Expected>,
    pruned: Duration,
}

#[derive(Debug)]
struct Known {
    smooth: Smooth,
    newest: Duration,
    /// Pods that come here, and parts of those that may.
    expected: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    pod: Box<str>,
    of: Pending,
    since: Duration,
}

#[derive(Debug)]
struct Expected {
    requests: Pending,
    since: Duration,
    /// Where it may go, and where it went.
    nodes: Vec<Box<str>>,
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
                self.nodes.insert(node.into(), Known { smooth, newest: now, expected: Vec::new() });
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
        let why = self.why(nodes, Pending::default(), now);
        let exact = exact(&why);
        why.into_iter().zip(exact).map(|(why, exact)| Told { score: whole(exact), why }).collect()
    }

    /// How these nodes compare with each other for one pod, 10 for the best: what the scheduler is told.
    pub fn compare<N: AsRef<str>>(&mut self, nodes: &[N], pod: Pending, now: Duration) -> Vec<u8> {
        compared(&exact(&self.why(nodes, pod, now)))
    }

    fn why<N: AsRef<str>>(&mut self, nodes: &[N], pod: Pending, now: Duration) -> Vec<Option<Why>> {
        nodes.iter().map(|node| self.nodes.get_mut(node.as_ref())?.why(pod, now)).collect()
    }

    /// A pod that will be bound to one of `likely`. Which one is not known yet, so each of them gets an equal part of it; among too many it makes
    /// no difference.
    pub fn expect<N: AsRef<str>>(&mut self, pod: &str, requests: Pending, likely: &[N], now: Duration) {
        self.prune(now);
        if self.pods.len() >= MOST_PODS || self.pods.contains_key(pod) {
            return;
        }
        let likely = if likely.len() > MOST_NODES { &[] } else { likely };
        let share = 1.0 / likely.len() as f64;
        let part = Pending { cpus: requests.cpus * share, memory_bytes: requests.memory_bytes * share };
        likely.iter().for_each(|node| self.place(node.as_ref(), pod, part, now));
        let nodes = likely.iter().map(|node| node.as_ref().into()).collect();
        self.pods.insert(pod.into(), Expected { requests, since: now, nodes });
    }

    /// An expected pod was bound to this node: it counts there in full, and nowhere else. Other pods are none of ours.
    pub fn bound(&mut self, pod: &str, node: &str, now: Duration) {
        let Some(expected) = self.pods.get_mut(pod) else { return };
        let (requests, nodes) = (expected.requests, std::mem::replace(&mut expected.nodes, vec![node.into()]));
        for likely in nodes {
            if let Some(known) = self.nodes.get_mut(&likely) {
                known.expected.retain(|part| *part.pod != *pod);
            }
        }
        self.place(node, pod, requests, now);
    }

    fn place(&mut self, node: &str, pod: &str, part: Pending, now: Duration) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.expected.push(Part { pod: pod.into(), of: part, since: now });
        }
    }

    fn prune(&mut self, now: Duration) {
        if now.saturating_sub(self.pruned) < PRUNE_EVERY {
            return;
        }
        self.pruned = now;
        self.pods.retain(|_, expected| now.saturating_sub(expected.since) < SHOWS_AFTER);
        self.nodes.values_mut().for_each(|known| known.forget(now));
    }
}

impl Known {
    fn why(&mut self, pod: Pending, now: Duration) -> Option<Why> {
        let load = self.smooth.load()?;
        self.forget(now);
        let pending = self.expected.iter().map(|part| Pending::of(part.of, now.saturating_sub(part.since)));
        let pending = pending.fold(Pending::default(), Pending::and);
        Some(Why { made_of: score(load, pending.and(pod)), load, pending, age: now.saturating_sub(self.newest) })
    }

    fn forget(&mut self, now: Duration) {
        self.expected.retain(|part| now.saturating_sub(part.since) < SHOWS_AFTER);
    }
}

/// Mixed with what others have in the middle where figures are old.
fn exact(why: &[Option<Why>]) -> Vec<f64> {
    let scores: Vec<(f64, Duration)> = why.iter().map(|why| why.map_or((0.0, NEVER), |why| (why.made_of.exact, why.age))).collect();
    aged(&scores)
}

/// The nodes that a pod will most likely be bound to: those that compare best. No more than one too many are named.
pub fn likely<'n, N: AsRef<str>>(nodes: &'n [N], compared: &[u8]) -> Vec<&'n str> {
    let best = compared.iter().max();
    let best = nodes.iter().zip(compared).filter(|(_, score)| Some(*score) == best);
    best.map(|(node, _)| node.as_ref()).take(MOST_NODES + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];
    const HALF_A_CPU: Pending = Pending { cpus: 0.5, memory_bytes: 0.0 };

    fn idle() -> Load {
        Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() }
    }

    fn integers(ranking: &mut Ranking, now: Duration) -> Vec<u8> {
        ranking.of(&NAMES, now).into_iter().map(|told| told.score).collect()
    }

    fn pending(ranking: &mut Ranking, now: Duration) -> Vec<f64> {
        ranking.of(&NAMES, now).into_iter().map(|told| told.why.map_or(f64::NAN, |why| why.pending.cpus)).collect()
    }

    #[test]
    fn a_burst_of_pods_is_spread_before_any_of_them_shows() {
        for knows_where in [false, true] {
            let (mut ranking, now) = (Ranking::default(), Duration::from_secs(100));
            ranking.add("a", idle(), now);
            ranking.add("b", Load { cpus_used: 1.0, ..idle() }, now);
            let mut got = [0, 0];
            for pod in 0..10 {
                let told = ranking.compare(&NAMES, HALF_A_CPU, now);
                // Among equals the scheduler draws lots.
                let best = if told[0] == told[1] { pod % 2 } else { usize::from(told[1] > told[0]) };
                got[best] += 1;
                ranking.expect(&pod.to_string(), HALF_A_CPU, &likely(&NAMES, &told), now);
                if knows_where {
                    ranking.bound(&pod.to_string(), NAMES[best], now);
                }
            }
            assert!(got[0] > 0 && got[1] > 0 && got[0] > got[1], "{got:?}");
            // It fades as the nodes' own figures would take it in.
            let later = now + Duration::from_secs(31);
            ranking.add("a", idle(), later);
            assert_eq!(pending(&mut ranking, later), [0.0, 0.0]);
        }
    }

    #[test]
    fn a_pod_that_is_tried_again_counts_once() {
        let (mut ranking, now) = (Ranking::default(), Duration::ZERO);
        NAMES.iter().for_each(|name| ranking.add(name, idle(), now));
        (0..100).for_each(|_| ranking.expect("the same", HALF_A_CPU, &NAMES, now));
        assert_eq!(pending(&mut ranking, now), [0.25, 0.25]);
        // Where it went it counts in full, however often that is told.
        (0..2).for_each(|_| ranking.bound("the same", "b", now));
        assert_eq!(pending(&mut ranking, now), [0.0, 0.5]);
        ranking.bound("one of somebody else", "a", now);
        assert_eq!(pending(&mut ranking, now), [0.0, 0.5]);
    }

    #[test]
    fn a_pod_that_may_go_anywhere_counts_once_it_is_bound() {
        let (mut ranking, now) = (Ranking::default(), Duration::ZERO);
        let names: Vec<String> = (0..100).map(|number| format!("node-{number}")).collect();
        names.iter().for_each(|name| ranking.add(name, idle(), now));
        let told = ranking.compare(&names, HALF_A_CPU, now);
        ranking.expect("one", HALF_A_CPU, &likely(&names, &told), now);
        assert!(ranking.of(&names, now).iter().all(|told| told.why.is_some_and(|why| why.pending == Pending::default())));
        ranking.bound("one", "node-7", now);
        assert_eq!(ranking.of(&["node-7"], now)[0].why.map(|why| why.pending), Some(HALF_A_CPU));
    }

    #[test]
    fn a_pod_weighs_more_on_a_small_node() {
        let (mut ranking, now) = (Ranking::default(), Duration::ZERO);
        ranking.add("a", idle(), now);
        ranking.add("b", Load { cpus: 16.0, cpus_used: 4.0, ..idle() }, now);
        assert_eq!(ranking.compare(&NAMES, HALF_A_CPU, now)[0], 10);
        assert_eq!(ranking.compare(&NAMES, Pending { cpus: 3.0, memory_bytes: 0.0 }, now)[1], 10);
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
