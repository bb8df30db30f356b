//! The record of how this control plane came to its etcd member: on STATE, and on the board.

use anyhow::Context;
use controlplane::bootstrap::Record;
use machine::Root;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::node::Node;
use crate::store::{Resource, Store};

/// The record, with when and by whom it was made; one object, `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    #[serde(flatten)]
    pub record: Record,
    /// Seconds since the epoch.
    pub at: u64,
    /// The caller's identity.
    pub by: String,
}

impl Resource for Bootstrap {
    const KIND: &'static str = "bootstraps";
}

impl Bootstrap {
    pub const NAME: &'static str = "cluster";
}

/// What STATE says; none before the cluster was bootstrapped through this machine.
pub fn load(root: &Root) -> anyhow::Result<Option<Bootstrap>> {
    let path = root.bootstrap_record();
    let reading = || format!("reading the bootstrap record {}", path.display());
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(reading),
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(reading),
    }
}

/// Writes it to STATE, for good, and then to the board.
pub fn save(node: &Node, bootstrap: &Bootstrap) -> anyhow::Result<()> {
    files::write(&node.root.bootstrap_record(), &serde_json::to_vec_pretty(bootstrap)?, 0o600)?;
    node.store.put(Bootstrap::NAME, bootstrap);
    Ok(())
}

/// Whether there is a record: this machine has a member of etcd.
pub fn is_done(store: &Store) -> bool {
    store.get::<Bootstrap>(Bootstrap::NAME).is_some()
}
