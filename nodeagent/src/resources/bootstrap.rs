//! The record of how this control plane came to its etcd member: on STATE, and on the board.

use controlplane::bootstrap::Record;
use machine::Root;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::node::Node;
use crate::state_record::{self, Versioned};
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

impl Versioned for Bootstrap {
    const VERSION: u32 = Record::VERSION;
}

impl Bootstrap {
    pub const NAME: &'static str = "cluster";
}

/// What STATE says; none before the cluster was bootstrapped through this machine.
pub fn load(root: &Root) -> anyhow::Result<Option<Bootstrap>> {
    Ok(state_record::read(&root.bootstrap_record())?)
}

/// Writes it to STATE, for good, and then to the board.
pub fn save(node: &Node, bootstrap: &Bootstrap) -> anyhow::Result<()> {
    files::write(&node.root.bootstrap_record(), &serde_json::to_vec_pretty(bootstrap)?, 0o600)?;
    node.store.put(Bootstrap::NAME, bootstrap);
    Ok(())
}

/// Removes it from STATE: etcd's data is about to be wiped on request, and this machine may make or join a cluster again.
pub fn forget(root: &Root) -> anyhow::Result<()> {
    files::remove(&root.bootstrap_record())
}

/// Whether there is a record: this machine has a member of etcd.
pub fn is_done(store: &Store) -> bool {
    store.get::<Bootstrap>(Bootstrap::NAME).is_some()
}

/// Whether this machine's etcd may serve an API server: a learner does not.
pub fn may_serve(store: &Store) -> bool {
    store.get::<Bootstrap>(Bootstrap::NAME).is_some_and(|bootstrap| !bootstrap.record.is_joining())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_client::InitClient;

    #[test]
    fn a_record_is_kept_read_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new(Root::new(directory.path()), InitClient::new(directory.path().join("init.sock")));
        assert_eq!(load(&node.root).unwrap(), None);
        let bootstrap = Bootstrap { record: Record::started("demo", "cp-1"), at: 1, by: "os:admin/alice".to_owned() };
        save(&node, &bootstrap).unwrap();
        assert!(is_done(&node.store));
        assert_eq!(load(&node.root).unwrap(), Some(bootstrap));
        forget(&node.root).unwrap();
        assert_eq!(load(&node.root).unwrap(), None);
    }

    #[test]
    fn a_record_that_is_not_readable_is_no_missing_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        files::write(&root.bootstrap_record(), b"{", 0o600).unwrap();
        assert!(load(&root).unwrap_err().to_string().contains("bootstrap.json"));
        files::write(&root.bootstrap_record(), br#"{ "version": 2, "how": "otherwise" }"#, 0o600).unwrap();
        assert!(load(&root).unwrap_err().to_string().contains("bootstrap.json: version 2 was written by a newer release"));
    }
}
