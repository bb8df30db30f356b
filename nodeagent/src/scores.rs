//! How well each node of the cluster would do with one more pod, on control planes: what the nodes' agents tell, and the pods that are on their
//! way to them. The scheduler asks (`extender`), and whoever wants to know why (`machinectl get scores`). docs/scheduling.md derives the scores.

pub mod extender;
mod follow;
mod pending;
mod publish;
#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::score::{self, Load, Pending, Score, Smooth};
use tokio::time::Instant;

pub use follow::{Listeners, follow};
use pending::OnTheirWay;
pub use publish::publish;

/// What is known of all nodes; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Scores(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    figures: HashMap<String, Figures>,
    pending: OnTheirWay,
}

#[derive(Debug)]
struct Figures {
    smooth: Smooth,
    newest: Instant,
    /// The integer that was told last.
    told: Option<u8>,
}

/// One node's score, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub node: String,
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

/// Of a node that never told anything: as old as can be.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Scores {
    /// What a node tells of itself.
    pub fn add(&self, node: &str, load: Load, now: Instant) {
        let mut inner = self.lock();
        match inner.figures.get_mut(node) {
            Some(figures) => {
                figures.smooth.add(load, now - figures.newest);
                figures.newest = now;
            }
            None => {
                let mut smooth = Smooth::default();
                smooth.add(load, Duration::ZERO);
                inner.figures.insert(node.to_owned(), Figures { smooth, newest: now, told: None });
            }
        }
    }

    /// A node that left the cluster.
    pub fn remove(&self, node: &str) {
        self.lock().figures.remove(node);
    }

    /// Every node that told anything, by name.
    pub fn all(&self, now: Instant) -> Vec<Told> {
        let mut names: Vec<String> = self.lock().figures.keys().cloned().collect();
        names.sort();
        self.of(&names, now)
    }

    /// These nodes' scores, in their order.
    pub fn of(&self, nodes: &[String], now: Instant) -> Vec<Told> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let why: Vec<Option<Why>> = nodes.iter().map(|node| inner.why(node, now)).collect();
        let exact: Vec<(f64, Duration)> =
            why.iter().map(|why| why.as_ref().map_or((0.0, NEVER), |why| (why.made_of.exact, why.age))).collect();
        let aged = score::aged(&exact);
        let told = |((node, why), exact): ((&String, Option<Why>), f64)| {
            let figures = inner.figures.get_mut(node);
            let score = score::told(exact, figures.as_ref().and_then(|figures| figures.told));
            if let Some(figures) = figures {
                figures.told = Some(score);
            }
            Told { node: node.clone(), score, why }
        };
        nodes.iter().zip(why).zip(aged).map(told).collect()
    }

    /// A pod that will be bound to one of these: the scheduler mostly takes one of the best.
    pub fn expect(&self, pod: &str, requests: Pending, scores: &[Told], now: Instant) {
        self.lock().pending.expect(pod, requests, scores, now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn why(&mut self, node: &str, now: Instant) -> Option<Why> {
        let figures = self.figures.get(node)?;
        let load = figures.smooth.load()?;
        let (age, pending) = (now - figures.newest, self.pending.of(node, now));
        Some(Why { made_of: score::score(load, pending), load, pending, age })
    }
}
