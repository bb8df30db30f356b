//! YAML as a tree that knows where each value stands. [`read`](read::read) makes it; the typed document, every check and every message
//! are made from it. It is stricter than YAML: no tags, no merge keys, no complex keys, no duplicate keys, and bounds on size and depth.

mod print;
mod read;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;

use serde_json::{Map, Number, Value};

pub use print::print;
pub use read::{read_all, read_one};

use super::report::{Path, Place, Step};

/// Largest text that is read, in bytes: no config comes near it, and cloud metadata services have smaller limits.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most values a text may hold after its aliases are resolved; long texts count as several.
pub const MAX_WEIGHT: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Clone, PartialEq)]
pub enum Content {
    Null,
    Boolean(bool),
    /// The number, and how it was written.
    Number(Number, String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    pub value: Node,
}

impl Node {
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Boolean(boolean) => Value::Bool(*boolean),
            Content::Number(number, _) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Node::value).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect::<Map<_, _>>())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Where the path's last step that exists stands: a key rather than its value, because that is what a reader looks for.
    pub fn place_of(&self, path: &Path) -> Place {
        let (mut node, mut place) = (self, self.place);
        for step in path.steps() {
            let next = match (step, &node.content) {
                (Step::Key(key), Content::Map(_)) => node.entry(key).map(|entry| (&entry.value, entry.place)),
                (Step::Item(index), Content::List(items)) => items.get(*index).map(|item| (item, item.place)),
                _ => None,
            };
            let Some(found) = next else { return place };
            (node, place) = found;
        }
        place
    }

    /// The value at the path's end.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        path.steps().iter().try_fold(self, |node, step| match (step, &node.content) {
            (Step::Key(key), _) => node.get(key),
            (Step::Item(index), Content::List(items)) => items.get(*index),
            _ => None,
        })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// A value that stands nowhere.
impl From<&Value> for Node {
    fn from(value: &Value) -> Node {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(boolean) => Content::Boolean(*boolean),
            Value::Number(number) => Content::Number(number.clone(), number.to_string()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(items.iter().map(Node::from).collect()),
            Value::Object(fields) => Content::Map(fields.iter().map(Entry::from).collect()),
        };
        Node { place: Place::default(), content }
    }
}

impl From<(&String, &Value)> for Entry {
    fn from((key, value): (&String, &Value)) -> Entry {
        Entry { key: key.clone(), place: Place::default(), value: Node::from(value) }
    }
}

/// The kind alone: a tree may hold secrets.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Content {
    /// What messages call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Null => "nothing",
            Content::Boolean(_) => "a boolean",
            Content::Number(..) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}
