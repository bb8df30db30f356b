//! The JSON schema of the machine config, made from the Rust types; checks, messages and explanations all read it.

mod explain;
mod walk;

use std::sync::OnceLock;

use serde_json::{Map, Value};

pub use explain::{UnknownField, explain};
pub use walk::{Schema, Shape};

use super::document::{API_VERSION, Document, KIND};

/// The schema as JSON (draft 2020-12), as configs/schema holds it.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    strip_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), KIND.into());
    }
    for (field, only) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{field}")).and_then(Value::as_object_mut) {
            property.insert("const".to_owned(), only.into());
        }
    }
    schema
}

/// The same, made once.
pub(super) fn document_schema() -> Schema<'static> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    Schema::root(SCHEMA.get_or_init(schema))
}

/// A field that is absent has no value; none is ever written as null.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        Value::Object(fields) => {
            fields.values_mut().for_each(strip_null);
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            strip_null_choice(fields);
        }
        _ => {}
    }
}

/// `anyOf: [X, null]` becomes X.
fn strip_null_choice(fields: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = fields.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
    if let [only] = choices.as_slice() {
        let only = only.clone();
        fields.remove("anyOf");
        if let Value::Object(only) = only {
            fields.extend(only);
        }
    }
}

#[cfg(test)]
mod tests;
