//! Field names and types of upstream's component configs, for the pass-through fields of the machine config.
//!
//! The tables are facts read from upstream's Go types; upstream/README.md says how they are made.

use std::sync::OnceLock;

use serde_json::Value;

use super::report::{Path, Problem};
use super::schema::Schema;
use super::structure;
use super::yaml::{Content, Node};

const FIELDS: &str = include_str!("upstream/fields.json");

/// Where in the machine config upstream's fields stand, and of which type they are.
const PLACES: [(&str, &str); 4] = [
    ("cluster.apiServer.auditPolicy", "Policy"),
    ("cluster.network.proxy.config", "KubeProxyConfiguration"),
    ("cluster.scheduler.config", "KubeSchedulerConfiguration"),
    ("machine.kubelet.config", "KubeletConfiguration"),
];

/// Problems of all of upstream's fields in a machine config.
pub fn check(config: &Node) -> Vec<Problem> {
    let each = |(path, kind): (&str, &str)| {
        let path = Path::of(path);
        let node = config.find(&path).filter(|node| matches!(node.content, Content::Map(_)))?;
        Some(structure::check(node, Schema::root(table()).definition(kind)?, &path))
    };
    PLACES.into_iter().filter_map(each).flatten().collect()
}

fn table() -> &'static Value {
    static TABLE: OnceLock<Value> = OnceLock::new();
    TABLE.get_or_init(|| serde_json::from_str(FIELDS).unwrap_or_default())
}

#[cfg(test)]
mod generate;
#[cfg(test)]
mod tests;
