//! What the watches have seen of the cluster, for the controller to take a picture of. It is not on the board: there it would be read anew,
//! and wake others, with every pod of the cluster that changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::cluster::{Cluster, Words};

/// A handle; clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct View(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    cluster: Arc<Cluster>,
    words: Words,
    listed: Listed,
}

/// Which kinds are known as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    pub policies: bool,
    pub namespaces: bool,
    pub pods: bool,
}

impl View {
    pub fn picture(&self) -> (Arc<Cluster>, Listed) {
        let state = self.lock();
        (state.cluster.clone(), state.listed)
    }

    /// Changes what is known; `change` says whether it did.
    pub fn update(&self, change: impl FnOnce(&mut Cluster, &mut Words, &mut Listed) -> bool) {
        let mut state = self.lock();
        let State { cluster, words, listed } = &mut *state;
        let before = *listed;
        let changed = change(Arc::make_mut(cluster), words, listed);
        if changed || before != *listed {
            self.0.changes.send_modify(|number| *number += 1);
        }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until the cluster has policies, or has none.
    pub async fn until_policies(&self, some: bool) {
        let mut changes = self.changes();
        // The sender lives as long as this handle.
        while self.lock().cluster.policies.is_empty() == some && changes.changed().await.is_ok() {}
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
