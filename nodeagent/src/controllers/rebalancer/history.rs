//! What was evicted of late, in the memory of the control plane that decides. One that takes over knows nothing of before, and takes it that
//! everything was done just then.

use std::collections::BTreeMap;

/// An owner's pods are touched at most once in this time, in seconds: a pod that brings pressure wherever it goes is not sent around.
const OWNER_PAUSE: i64 = 3600;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Seconds since 1970, as all times here.
    began: i64,
    last: Option<i64>,
    nodes: BTreeMap<String, i64>,
    /// By uid.
    owners: BTreeMap<String, i64>,
}

impl History {
    pub fn began(now: i64) -> History {
        History { began: now, ..History::default() }
    }

    /// Notes an eviction that was asked for, let or refused: the pauses are between tries. What no pause asks for any more is dropped.
    pub fn evicted(&mut self, node: &str, owner: &str, now: i64) {
        self.last = Some(now);
        self.owners.retain(|_, at| now - *at < OWNER_PAUSE);
        self.nodes.retain(|_, at| now - *at < 86_400);
        self.nodes.insert(node.to_owned(), now);
        self.owners.insert(owner.to_owned(), now);
    }

    pub fn in_cluster(&self) -> i64 {
        self.last.unwrap_or(self.began)
    }

    pub fn on_node(&self, node: &str) -> i64 {
        self.nodes.get(node).copied().unwrap_or(self.began)
    }

    pub fn may_touch(&self, owner: &str, now: i64) -> bool {
        self.owners.get(owner).is_none_or(|at| now - *at >= OWNER_PAUSE)
    }
}
