//! Machine configs as text: in one order whatever the order of the file, with or without defaults, with or without secrets.

use serde_json::{Map, Value};

use super::document::{API_VERSION, Config, Document, KIND};
use super::report::{Report, UNNAMED};
use super::schema::{Schema, Shape, document_schema};
use super::source::Source;
use super::yaml::print;

/// Stands for a secret.
pub const MASK: &str = "********";
/// Stands for a secret that differs from the one before.
const CHANGED_MASK: &str = "******** (changed)";

/// What a text says, without its comments and in the order of the schema. Nothing is added or left out.
pub fn canonical(text: &str) -> Result<String, Report> {
    Ok(print(&ordered(&Source::read(text, UNNAMED)?.value(), document_schema())))
}

/// The same with a mask for each secret.
pub fn masked(text: &str) -> Result<String, Report> {
    let value = ordered(&Source::read(text, UNNAMED)?.value(), document_schema());
    Ok(print(&mask(&value, None, document_schema())))
}

/// A unified diff of what two texts say, secrets masked; empty where they say the same. A text that is no machine config counts as empty.
pub fn diff(old: &str, new: &str) -> String {
    let read = |text| Source::read(text, UNNAMED).ok().map(|source| ordered(&source.value(), document_schema()));
    let (old, new) = (read(old), read(new));
    let shown = |value: Option<&Value>, before| value.map(|value| print(&mask(value, before, document_schema()))).unwrap_or_default();
    let (before, after) = (shown(old.as_ref(), None), shown(new.as_ref(), old.as_ref()));
    let diff = similar::TextDiff::from_lines(&before, &after);
    diff.unified_diff().header("old", "new").to_string()
}

impl Document {
    /// The document with what differs from the defaults: how a person would write it.
    pub fn to_yaml(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        print(&without_defaults(&ordered(&value, document_schema()), document_schema()))
    }
}

impl Config {
    /// The config with every default written out.
    pub fn to_yaml(&self) -> String {
        print(&self.value())
    }

    /// The same with a mask for each secret.
    pub fn to_masked_yaml(&self) -> String {
        print(&mask(&self.value(), None, document_schema()))
    }

    pub(super) fn value(&self) -> Value {
        let Config { cluster, machine } = self.clone();
        let document = Document { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), cluster, machine };
        ordered(&serde_json::to_value(document).unwrap_or_default(), document_schema())
    }
}

/// Known fields in the order of the schema, all others by name.
pub(super) fn ordered(value: &Value, schema: Schema<'_>) -> Value {
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Fields) => {
            let known = schema.fields().filter_map(|(name, field)| Some((name.to_owned(), ordered(fields.get(name)?, field))));
            Value::Object(known.collect())
        }
        (Value::Object(entries), Shape::Map(values)) => {
            Value::Object(sorted(entries).map(|(key, value)| (key.clone(), ordered(value, values))).collect())
        }
        (Value::Array(items), Shape::List(schema)) => Value::Array(items.iter().map(|item| ordered(item, schema)).collect()),
        (Value::Object(entries), _) => Value::Object(sorted(entries).map(|(key, value)| (key.clone(), ordered(value, schema))).collect()),
        (Value::Array(items), _) => Value::Array(items.iter().map(|item| ordered(item, schema)).collect()),
        _ => value.clone(),
    }
}

fn sorted(entries: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter()
}

/// Masks secrets; those that differ from `before` are marked, without a word of either.
fn mask(value: &Value, before: Option<&Value>, schema: Schema<'_>) -> Value {
    if schema.is_secret() {
        return if before.is_some_and(|before| before != value) { CHANGED_MASK.into() } else { MASK.into() };
    }
    let field = |name: &str| before.and_then(|before| before.get(name));
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Fields) => {
            let masked = |(name, value): (&String, &Value)| {
                let value = schema.field(name).map_or_else(|| value.clone(), |schema| mask(value, field(name), schema));
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(masked).collect())
        }
        (Value::Object(entries), Shape::Map(values)) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), mask(value, field(key), values))).collect())
        }
        (Value::Array(items), Shape::List(schema)) => {
            Value::Array(items.iter().enumerate().map(|(index, item)| mask(item, counterpart(before, index, item), schema)).collect())
        }
        _ => value.clone(),
    }
}

/// The item of the list before that an item goes on from: the one of the same path or name, else the one at the same place.
fn counterpart<'a>(before: Option<&'a Value>, index: usize, item: &Value) -> Option<&'a Value> {
    let before = before?.as_array()?;
    match ["path", "name"].into_iter().find(|key| item.get(key).is_some()) {
        Some(key) => before.iter().find(|other| other.get(key) == item.get(key)),
        None => before.get(index),
    }
}

/// Leaves out what says the default; required fields and the keys of maps stay.
fn without_defaults(value: &Value, schema: Schema<'_>) -> Value {
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Fields) => {
            let required: Vec<&str> = schema.required().collect();
            let kept = fields.iter().filter_map(|(name, value)| {
                let field = schema.field(name)?;
                let kept = without_defaults(value, field);
                let empty = field.default() == Some(value)
                    || kept.as_object().is_some_and(|kept| kept.is_empty() && matches!(field.shape(), Shape::Fields));
                (required.contains(&name.as_str()) || !empty).then(|| (name.clone(), kept))
            });
            Value::Object(kept.collect())
        }
        (Value::Object(entries), Shape::Map(values)) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), without_defaults(value, values))).collect())
        }
        (Value::Array(items), Shape::List(schema)) => Value::Array(items.iter().map(|item| without_defaults(item, schema)).collect()),
        _ => value.clone(),
    }
}
