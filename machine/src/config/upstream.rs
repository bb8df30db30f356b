//! Field names and types of upstream's component configs, for the pass-through fields of the machine config.
//!
//! The tables are facts read from upstream's Go types; upstream/README.md says how they are made.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::report::{Path, Problem};
use super::schema::Schema;
use super::source::Source;
use super::structure;
use super::yaml::Node;

const FIELDS: &str = include_str!("upstream/fields.json");

/// Problems of `fields` as an object of upstream's type `kind`. With the source, messages point into the text.
pub fn check(fields: &Map<String, Value>, kind: &str, path: &Path, source: Option<&Source>) -> Vec<Problem> {
    let Some(schema) = Schema::root(table()).definition(kind) else { return Vec::new() };
    match source.and_then(|source| source.node(path)) {
        Some(node) => structure::check(node, schema, path),
        None => structure::check(&Node::from(&Value::Object(fields.clone())), schema, path),
    }
}

fn table() -> &'static Value {
    static TABLE: OnceLock<Value> = OnceLock::new();
    TABLE.get_or_init(|| serde_json::from_str(FIELDS).unwrap_or_default())
}

#[cfg(test)]
mod generate;
#[cfg(test)]
mod tests;
