//! What the watches have seen of Services and of their endpoints, and which agents answer. It is not on the board: there it would wake others with
//! every pod that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::service::{Key, Services};

/// A handle; clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct View(watch::Sender<State>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Services of type LoadBalancer; none before all were listed.
    pub services: Option<Arc<Services>>,
    /// By their own keys; of Services that only nodes with an endpoint serve.
    pub slices: Arc<BTreeMap<Key, Slice>>,
    /// Names of the Services whose slices are known.
    pub listed: BTreeSet<String>,
    /// Whether this control plane leads, and has to know more than others.
    pub leads: bool,
    /// By Node, once it is known.
    pub answering: BTreeMap<String, bool>,
}

/// Where a part of a Service's endpoints is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    pub service: Key,
    /// Nodes with one that is ready.
    pub ready: BTreeSet<String>,
    /// Nodes with one that still serves while it ends.
    pub ending: BTreeSet<String>,
}

impl State {
    /// Nodes with endpoints of the Service: those that are ready, or while there is none, those that still serve, as kube-proxy has it. None where
    /// that is not known yet.
    pub fn endpoints(&self, service: &Key) -> Option<BTreeSet<String>> {
        let slices = || self.slices.values().filter(|slice| slice.service == *service);
        let ready: BTreeSet<String> = slices().flat_map(|slice| slice.ready.iter().cloned()).collect();
        let nodes = if ready.is_empty() { slices().flat_map(|slice| slice.ending.iter().cloned()).collect() } else { ready };
        self.listed.contains(&service.name).then_some(nodes)
    }

    /// Names of Services that only nodes with an endpoint serve.
    pub fn local(&self) -> BTreeSet<String> {
        let local = self.services.iter().flat_map(|services| services.iter()).filter(|(_, service)| service.local);
        local.map(|(key, _)| key.name.clone()).collect()
    }
}

impl View {
    pub fn picture(&self) -> State {
        self.0.borrow().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    pub fn changes(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Waits until the state is so.
    pub async fn until(&self, is_so: impl Fn(&State) -> bool) {
        // The sender lives as long as this handle.
        drop(self.changes().wait_for(is_so).await);
    }
}
