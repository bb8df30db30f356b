//! What the machine, its services, pods and containers use: read by a thread of its own, for everybody in the agent who asks.

mod changes;
pub mod cluster;
mod naming;
mod telling;
pub mod voices;

use std::sync::Arc;
use std::time::Duration;

use machine::Root;
use metrics::identity::Identity;
use metrics::pace::Pace;
use metrics::{Collector, Names, Snapshot};
use tokio::sync::watch;

use crate::node::Node;
pub use telling::Telling;

/// A handle to the newest figures; clones see the same.
#[derive(Debug, Clone)]
pub struct Usage {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    names: watch::Receiver<Arc<Names>>,
}

/// How long to wait before the collector is started again, should it have failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

impl Usage {
    /// Starts to read, and to ask the container runtime for names.
    pub fn start(node: &Node) -> std::io::Result<Usage> {
        let (sender, snapshots) = watch::channel(Arc::default());
        let names = naming::follow(node.clone(), snapshots.clone());
        let (root, called) = (node.root.clone(), names.clone());
        std::thread::Builder::new().name("metrics".to_owned()).spawn(move || collect(&root, &called, &sender))?;
        Ok(Usage { snapshots, names })
    }

    /// What is read of the machine's root, where everything is called so.
    #[cfg(test)]
    pub fn reading(root: &Root, names: Names) -> Usage {
        let (sender, snapshots) = watch::channel(Arc::default());
        let names = watch::channel(Arc::new(names)).1;
        let (root, called) = (root.clone(), names.clone());
        std::thread::spawn(move || collect(&root, &called, &sender));
        Usage { snapshots, names }
    }

    /// Figures that do not change.
    #[cfg(test)]
    pub fn of(snapshot: Snapshot, names: Names) -> Usage {
        let (sender, snapshots) = watch::channel(Arc::new(snapshot));
        // As a collector that is still there.
        std::mem::forget(sender);
        Usage { snapshots, names: watch::channel(Arc::new(names)).1 }
    }

    /// The newest figures, and what is called how. Nothing in them before the first sweep.
    pub fn newest(&self) -> (Arc<Snapshot>, Arc<Names>) {
        (self.snapshots.borrow().clone(), self.names.borrow().clone())
    }

    /// Waits for the next sweep; false where there will be none.
    pub async fn changed(&mut self) -> bool {
        self.snapshots.changed().await.is_ok()
    }
}

/// Reads for as long as somebody wants to know.
fn collect(root: &Root, names: &watch::Receiver<Arc<Names>>, snapshots: &watch::Sender<Arc<Snapshot>>) {
    let mut pause = FIRST_PAUSE;
    while !snapshots.is_closed() {
        let run = |collector: Collector| {
            collector.run(|snapshot| {
                pause = FIRST_PAUSE;
                snapshots.send_replace(snapshot);
                !snapshots.is_closed()
            })
        };
        let names = names.clone();
        let collector = Collector::new(&root.cgroups(), &root.proc(), Pace::default());
        let collector =
            collector.map(|collector| collector.of(Identity::read(&root.path("/"))).knowing(move |id| names.borrow().is_sandbox(id)));
        if let Err(error) = collector.and_then(run) {
            tracing::warn!("{:#}", anyhow::Error::from(error).context("reading what the machine uses"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
