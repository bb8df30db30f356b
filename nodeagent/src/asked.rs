//! Kinds that are not on the board: the kernel is asked for them when a client asks. They change all the time, and nobody in the agent needs them.

pub mod neighbours;
pub mod sockets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::node::Node;
use crate::resources::network::{Neighbour, Socket};
use crate::store::{Object, Resource};

/// What there is of a kind now; none of a kind that is on the board.
pub async fn objects(node: &Node, kind: &str) -> anyhow::Result<Option<Vec<Object>>> {
    Ok(match kind {
        Socket::KIND => Some(listed(Socket::KIND, sockets::list(&node.root).await?)),
        Neighbour::KIND => Some(listed(Neighbour::KIND, neighbours::list().await?)),
        _ => None,
    })
}

/// Whether it is one of these kinds: it has no changes that could be watched.
pub fn is_asked(kind: &str) -> bool {
    [Socket::KIND, Neighbour::KIND].contains(&kind)
}

fn listed(kind: &'static str, all: BTreeMap<String, impl Serialize>) -> Vec<Object> {
    // Plain structs of ours: turning them into values has no way to go wrong.
    let object = |(name, one)| Some(Object { kind, name, revision: 0, value: serde_json::to_value(one).ok()? });
    all.into_iter().filter_map(object).collect()
}
