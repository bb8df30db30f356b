//! The schema versions of the machine config, and how a document gets from one to another. Configs of old releases stay loadable: a document
//! is taken forward, step by step, before its fields are checked. Backward is the way to what an older image reads.
//!
//! A step is a pure function on the tree, so that every value keeps its line and column. There is one version so far, and so no step; the
//! second version brings the first one, with goldens beside `v1/`.

use super::document::API_VERSION;
use super::yaml::{self, Content, Node};

/// Every version that is read, oldest first; the last is the one that documents are checked by.
pub const VERSIONS: &[&str] = &[API_VERSION];

/// The way between a version and the one after it.
pub struct Step {
    pub forward: fn(Node) -> Node,
    pub backward: fn(Node) -> Node,
}

/// One between each two of [`VERSIONS`].
const STEPS: &[Step] = &[];

/// What `apiVersion` a document says, if it is a map that says one.
pub fn api_version(text: impl AsRef<[u8]>) -> Option<String> {
    said(&yaml::read_one(text, "").ok()?).map(str::to_owned)
}

/// Whether a newer release wrote the document.
pub fn is_newer(text: impl AsRef<[u8]>) -> bool {
    api_version(text).is_some_and(|version| is_of_ours(&version) && !VERSIONS.contains(&version.as_str()))
}

/// Whether that is a version of the machine config at all, known or not.
pub fn is_of_ours(version: &str) -> bool {
    let group = API_VERSION.split('/').next().unwrap_or_default();
    version.strip_prefix(group).is_some_and(|rest| rest.starts_with("/v"))
}

/// The document in the newest version. One of an unknown version stays as it is: the check of its header refuses it.
pub fn forward(tree: Node) -> Node {
    migrate(tree, VERSIONS, STEPS, API_VERSION).unwrap_or_else(|tree| tree)
}

/// The document in another version; the document itself where there is no way.
fn migrate(tree: Node, versions: &[&str], steps: &[Step], to: &str) -> Result<Node, Node> {
    let index = |version: &str| versions.iter().position(|known| *known == version);
    let (Some(from), Some(to)) = (said(&tree).and_then(index), index(to)) else { return Err(tree) };
    let moved = if from <= to {
        steps[from..to].iter().fold(tree, |tree, step| (step.forward)(tree))
    } else {
        steps[to..from].iter().rev().fold(tree, |tree, step| (step.backward)(tree))
    };
    Ok(stamp(moved, versions[to]))
}

fn said(tree: &Node) -> Option<&str> {
    match &tree.get("apiVersion")?.content {
        Content::Text(version) => Some(version),
        _ => None,
    }
}

fn stamp(mut tree: Node, version: &str) -> Node {
    if let Content::Map(entries) = &mut tree.content
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "apiVersion")
    {
        entry.value.content = Content::Text(version.to_owned());
    }
    tree
}

#[cfg(test)]
mod tests;
