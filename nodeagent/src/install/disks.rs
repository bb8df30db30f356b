//! Keeps the machine's disks on the board, in maintenance too: by them one writes the config to install with.
//!
//! reads: sysfs, the mount table, what init found at boot   writes: disks

use std::time::Duration;

use super::inventory;
use crate::node::Node;

/// How often disks are looked for. They come and go without a word to the agent.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks for as long as the agent lives.
pub async fn watch(node: Node) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = publish(&node).await {
            tracing::warn!("{error:#}");
        }
    }
}

/// Looks once.
pub async fn publish(node: &Node) -> anyhow::Result<()> {
    let own = node.boot_facts().disk;
    let root = node.root.clone();
    let disks = tokio::task::spawn_blocking(move || inventory::read(&root, &own)).await??;
    node.store.replace(disks.into_iter().map(|disk| (disk.path.trim_start_matches("/dev/").to_owned(), disk)));
    Ok(())
}
