//! Asks the container runtime what pods and containers are called, when some are there that it was not asked about.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Names, Place, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::containerd;
use crate::controllers::images;
use crate::node::Node;
use crate::resources::services;

/// How long the runtime may take to list what it has.
const DEADLINE: Duration = Duration::from_secs(10);
/// What the runtime does not know is asked for again after so long, and twice as long each time: a sandbox is known only once it is whole.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the names as long as there are snapshots.
pub fn follow(node: Node, snapshots: watch::Receiver<Arc<Snapshot>>) -> watch::Receiver<Arc<Names>> {
    let (sender, names) = watch::channel(Arc::default());
    tokio::spawn(run(node, snapshots, sender));
    names
}

async fn run(node: Node, mut snapshots: watch::Receiver<Arc<Snapshot>>, names: watch::Sender<Arc<Names>>) {
    let mut asked = Asked::default();
    // Read when the first pod is there. A root without it runs none.
    let sandbox_image = LazyCell::new(|| images::pause(&node.root).map(|archive| archive.name).unwrap_or_default());
    while snapshots.changed().await.is_ok() {
        let lacking = lacking(&snapshots.borrow_and_update(), &names.borrow());
        if !asked.is_due(&lacking, Instant::now()) || !services::is_ready(&node.store, "containerd") {
            continue;
        }
        let answer = timeout(DEADLINE, containerd::names(&node.root.containerd_socket(), &sandbox_image)).await;
        match answer.map_err(anyhow::Error::from).flatten() {
            Ok(found) => drop(names.send_replace(Arc::new(found))),
            Err(error) => tracing::warn!("asking for the names of pods: {error:#}"),
        }
        let left = lacking.into_iter().filter(|place| names.borrow().lacks(place)).collect();
        asked.left(left, Instant::now());
    }
}

fn lacking(snapshot: &Snapshot, names: &Names) -> HashSet<Place> {
    snapshot.groups.iter().map(|reading| &reading.place).filter(|place| names.lacks(place)).cloned().collect()
}

/// What was asked for in vain, and when to ask again.
#[derive(Debug, Default)]
struct Asked {
    unknown: HashSet<Place>,
    again: Option<(Instant, Duration)>,
}

impl Asked {
    fn is_due(&self, lacking: &HashSet<Place>, now: Instant) -> bool {
        let late = self.again.is_none_or(|(again, _)| again <= now);
        !lacking.is_empty() && (late || !lacking.is_subset(&self.unknown))
    }

    fn left(&mut self, unknown: HashSet<Place>, now: Instant) {
        let before = self.again.filter(|_| unknown.is_subset(&self.unknown)).map(|(_, pause)| pause);
        let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LAST_PAUSE));
        self.again = (!unknown.is_empty()).then_some((now + pause, pause));
        self.unknown = unknown;
    }
}

#[cfg(test)]
mod tests {
    use metrics::place::Quality;

    use super::*;

    fn pods(uids: &[&str]) -> HashSet<Place> {
        uids.iter().map(|uid| Place::Pod(Quality::Burstable, (*uid).into())).collect()
    }

    #[test]
    fn what_stays_unknown_is_asked_for_ever_less_often_and_what_is_new_at_once() {
        let (start, mut asked) = (Instant::now(), Asked::default());
        assert!(!asked.is_due(&pods(&[]), start));
        assert!(asked.is_due(&pods(&["a"]), start));
        asked.left(pods(&["a"]), start);
        assert!(!asked.is_due(&pods(&["a"]), start));
        assert!(asked.is_due(&pods(&["a", "b"]), start));
        assert!(asked.is_due(&pods(&["a"]), start + FIRST_PAUSE));
        asked.left(pods(&["a"]), start + FIRST_PAUSE);
        assert!(!asked.is_due(&pods(&["a"]), start + 2 * FIRST_PAUSE));
        assert!(asked.is_due(&pods(&["a"]), start + 3 * FIRST_PAUSE));
        asked.left(pods(&[]), start + 3 * FIRST_PAUSE);
        assert!(asked.is_due(&pods(&["c"]), start + 3 * FIRST_PAUSE));
    }
}
