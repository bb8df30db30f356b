//! The agent's side of kube-scheduler's extender protocol: which of the nodes that a pod fits on would do best. The scores themselves are
//! `metrics::score`; this crate turns them into answers over HTTP. Who tells of the nodes' loads, and who listens where, is the agent's affair.

mod prioritize;
mod quantity;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::score::{self, Load, Pending, Ranking};
use tokio::time::Instant;

pub use metrics::score::{Told, Why};
pub use prioritize::router;

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

    /// These nodes' scores, in their order.
    pub fn of<N: AsRef<str>>(&self, nodes: &[N], now: Instant) -> Vec<Told> {
        self.lock().of(nodes, self.since(now))
    }

    /// A pod that will be bound to one of these nodes; `told` are their scores, or none where scores do not decide.
    fn expect<N: AsRef<str>>(&self, pod: &str, requests: Pending, nodes: &[N], told: Option<&[Told]>, now: Instant) {
        let now = self.since(now);
        match told {
            Some(told) => self.lock().expect(pod, requests, &score::likely(nodes, told), now),
            None => self.lock().expect(pod, requests, nodes, now),
        }
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn lock(&self) -> MutexGuard<'_, Ranking> {
        self.ranking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
