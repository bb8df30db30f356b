//! The agent's side of kube-scheduler's extender protocol: which of the nodes that a pod fits on would do best. The scores themselves are
//! `metrics::score`; this crate turns them into answers over HTTP. Who tells of the nodes' loads, and who listens where, is the agent's affair.

mod prioritize;
pub mod quantity;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::score::{Load, Pending, Ranking};
use tokio::time::Instant;

pub use metrics::score::{Told, Why};
pub use prioritize::{OPT_OUT, router};

/// What is known of all nodes; clones are the same.
#[derive(Debug, Clone)]
pub struct Scores {
    ranking: Arc<Mutex<Ranking>>,
    began: Instant,
}

impl Default for Scores {
    fn default() -> Scores {
        Scores { ranking: Arc::default(), began: Instant::now() }
    }
}

impl Scores {
    /// What a node tells of itself.
    pub fn add(&self, node: &str, load: Load, now: Instant) {
        self.lock().add(node, load, self.since(now));
    }

    /// A node that left the cluster.
    pub fn remove(&self, node: &str) {
        self.lock().remove(node);
    }

    /// Every node that told anything, by name.
    pub fn all(&self, now: Instant) -> Vec<(String, Told)> {
        let mut ranking = self.lock();
        let names = ranking.names();
        let told = ranking.of(&names, self.since(now));
        names.into_iter().zip(told).collect()
    }

    /// How these nodes compare with each other for one pod, in their order; 10 is best.
    fn compare<N: AsRef<str>>(&self, nodes: &[N], pod: Pending, now: Instant) -> Vec<u8> {
        self.lock().compare(nodes, pod, self.since(now))
    }

    /// A pod that will be bound to one of these nodes.
    fn expect<N: AsRef<str>>(&self, pod: &str, requests: Pending, likely: &[N], now: Instant) {
        self.lock().expect(pod, requests, likely, self.since(now));
    }

    /// Where a pod went, by its uid; what was never asked for is none of ours.
    pub fn bound(&self, pod: &str, node: &str, now: Instant) {
        self.lock().bound(pod, node, self.since(now));
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn lock(&self) -> MutexGuard<'_, Ranking> {
        self.ranking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
