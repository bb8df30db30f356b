//! The API servers that are members of the cluster: on the board, and on STATE, so that a machine finds them again after a reboot.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use machine::Root;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::node::Node;
use crate::state_record::{self, Versioned};
use crate::store::Resource;

/// What this machine last heard of them; one object, `cluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Always 1.
    pub version: u32,
    pub addresses: BTreeSet<SocketAddr>,
}

impl Resource for Membership {
    const KIND: &'static str = "apiservermembers";
}

impl Versioned for Membership {
    const VERSION: u32 = 1;
}

impl Membership {
    pub const NAME: &'static str = "cluster";

    pub fn new(addresses: BTreeSet<SocketAddr>) -> Membership {
        Membership { version: Membership::VERSION, addresses }
    }
}

/// What STATE says.
pub fn load(root: &Root) -> anyhow::Result<Option<Membership>> {
    Ok(state_record::read(&root.api_server_addresses())?)
}

/// Writes it to STATE, and then to the board; what is there already is left.
pub fn save(node: &Node, membership: &Membership) -> anyhow::Result<()> {
    if node.store.get::<Membership>(Membership::NAME).as_ref() != Some(membership) {
        files::write(&node.root.api_server_addresses(), &serde_json::to_vec_pretty(membership)?, 0o600)?;
        node.store.put(Membership::NAME, membership);
    }
    Ok(())
}
