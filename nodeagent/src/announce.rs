//! Tells whoever sits at the machine where the machine API is, as long as the machine waits for its first config.

use machine::stage::Stage;

use crate::addresses::{endpoints, reachable};
use crate::node::Node;

/// Prints addresses and fingerprint, and again when the addresses change, until maintenance is over.
pub async fn announce(node: Node, fingerprint: String) {
    let (mut board, mut stages) = (node.store.revision(), node.watch_stage());
    let mut told = None;
    while node.stage() == Stage::Maintenance {
        board.mark_unchanged();
        let endpoints = endpoints(&reachable(&node.store), api::PORT);
        if told.as_ref() != Some(&endpoints) {
            node.console.print(&format!("maintenance mode: machine API on {endpoints}, certificate fingerprint sha256:{fingerprint}"));
            told = Some(endpoints);
        }
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return },
            changed = stages.changed() => if changed.is_err() { return },
        }
    }
}
