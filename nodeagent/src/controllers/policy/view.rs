//! What the watches have seen of the cluster, for the controller to take a picture of. It is not on the board: there it would be read anew,
//! and wake others, with every pod of the cluster that changes.

use std::sync::Arc;

use tokio::sync::watch;

use super::cluster::{Cluster, Words};

/// A handle; clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct View(watch::Sender<State>);

#[derive(Debug, Default)]
pub struct State {
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
        let state = self.0.borrow();
        (state.cluster.clone(), state.listed)
    }

    /// Changes what is known; `change` says whether it did.
    pub fn update(&self, change: impl FnOnce(&mut Cluster, &mut Words, &mut Listed) -> bool) {
        self.0.send_if_modified(|State { cluster, words, listed }| {
            let before = *listed;
            change(Arc::make_mut(cluster), words, listed) || before != *listed
        });
    }

    pub fn changes(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Waits until the cluster has policies, or has none.
    pub async fn until_policies(&self, some: bool) {
        // The sender lives as long as this handle.
        drop(self.changes().wait_for(|state| state.cluster.policies.is_empty() != some).await);
    }
}
