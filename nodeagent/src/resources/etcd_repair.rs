//! What is being done with this machine's member of etcd at somebody's word: on STATE, so that it goes on after a power cut, and on the board.

use machine::Root;
use serde::{Deserialize, Serialize};

use crate::clock::wall_seconds;
use crate::files;
use crate::node::Node;
use crate::state_record::{self, Versioned};
use crate::store::{Resource, Store};

/// One object, `etcd`, while there is something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRepair {
    /// Always 1.
    pub version: u32,
    #[serde(flatten)]
    pub repair: Repair,
    /// Seconds since the epoch.
    pub at: u64,
    /// The caller's identity.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "repair")]
pub enum Repair {
    /// A new cluster of this machine alone, with the database that waits on ETCD. The token tells it from the cluster that the database is of.
    Restore { token: String },
    /// The same, once the database is in its place: etcd is started, where nobody reaches it, and writes its log.
    Settle,
    /// The same, once it has: the log is made to begin with the database, so that whoever joins gets that too.
    Seal,
    /// A new cluster of this machine alone, with the data that it has; first everything in its log is made to count.
    Recover,
    /// The same, once the log is so: etcd is started, and told to.
    Force,
    /// Its data goes, and it joins as a new member.
    Rejoin,
}

impl Repair {
    /// What happens, for whoever waits.
    pub fn words(&self) -> &'static str {
        match self {
            Repair::Restore { .. } | Repair::Settle | Repair::Seal => "a snapshot to be restored",
            Repair::Recover | Repair::Force => "etcd to start as a cluster of this machine alone",
            Repair::Rejoin => "this member's data to be given up",
        }
    }

    /// Whether etcd's data is not to be touched by etcd.
    pub fn stops_etcd(&self) -> bool {
        !self.isolates_etcd()
    }

    /// Whether etcd runs where no other machine reaches it: whoever joined now would miss something.
    pub fn isolates_etcd(&self) -> bool {
        matches!(self, Repair::Settle | Repair::Force)
    }

    /// Whether what was read from etcd will not be true any more.
    pub fn changes_data(&self) -> bool {
        !matches!(self, Repair::Recover | Repair::Force)
    }
}

impl Resource for EtcdRepair {
    const KIND: &'static str = "etcdrepairs";
}

impl Versioned for EtcdRepair {
    const VERSION: u32 = 1;
}

impl EtcdRepair {
    pub const NAME: &'static str = "etcd";

    pub fn current(store: &Store) -> Option<Repair> {
        store.get::<EtcdRepair>(EtcdRepair::NAME).map(|told| told.repair)
    }
}

pub fn load(root: &Root) -> anyhow::Result<Option<EtcdRepair>> {
    Ok(state_record::read(&root.etcd_repair())?)
}

/// To STATE, for good, and then to the board: from then on it is done.
pub fn begin(node: &Node, repair: Repair, by: &str) -> anyhow::Result<()> {
    save(node, &EtcdRepair { version: EtcdRepair::VERSION, repair, at: wall_seconds(), by: by.to_owned() })
}

/// The next step of the one that is under way.
pub fn proceed(node: &Node, repair: Repair) -> anyhow::Result<()> {
    match node.store.get::<EtcdRepair>(EtcdRepair::NAME) {
        Some(told) => save(node, &EtcdRepair { repair, ..told }),
        None => Ok(()),
    }
}

fn save(node: &Node, repair: &EtcdRepair) -> anyhow::Result<()> {
    files::write(&node.root.etcd_repair(), &serde_json::to_vec_pretty(repair)?, 0o600)?;
    node.store.put(EtcdRepair::NAME, repair);
    Ok(())
}

pub fn end(node: &Node) -> anyhow::Result<()> {
    files::remove(&node.root.etcd_repair())?;
    node.store.remove::<EtcdRepair>(EtcdRepair::NAME);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_client::InitClient;

    #[test]
    fn it_is_kept_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new(Root::new(directory.path()), InitClient::new(directory.path().join("init.sock")));
        assert_eq!(load(&node.root).unwrap(), None);
        begin(&node, Repair::Restore { token: "demo-1".to_owned() }, "os:admin/alice").unwrap();
        let kept = load(&node.root).unwrap().unwrap();
        assert_eq!((kept.by.as_str(), kept.repair.stops_etcd()), ("os:admin/alice", true));
        begin(&node, Repair::Recover, "os:admin/alice").unwrap();
        proceed(&node, Repair::Force).unwrap();
        assert_eq!(load(&node.root).unwrap().unwrap().repair, Repair::Force);
        assert_eq!(EtcdRepair::current(&node.store), Some(Repair::Force));
        end(&node).unwrap();
        assert_eq!((load(&node.root).unwrap(), EtcdRepair::current(&node.store)), (None, None));
    }
}
