//! What a field is for, in words: for `machinectl explain`.

use std::fmt::Write;

use serde_json::Value;

use super::walk::{Schema, Shape};
use crate::config::structure::nearest;

/// A path that names no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: no such field{}", suggestion(.nearest.as_deref()))]
pub struct UnknownField {
    pub field: String,
    pub nearest: Option<String>,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// Explains a field by its path, such as `machine.network.interfaces`; the empty path explains the document. Items of lists and values of
/// maps are explained with their list or map.
pub fn explain(path: &str) -> Result<String, UnknownField> {
    let mut schema = super::document_schema();
    let mut so_far = String::new();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let holder = inner(schema);
        so_far = if so_far.is_empty() { name.to_owned() } else { format!("{so_far}.{name}") };
        schema = holder.field(name).ok_or_else(|| UnknownField {
            field: so_far.clone(),
            nearest: nearest(name, holder.fields().map(|(name, _)| name)).map(str::to_owned),
        })?;
    }
    Ok(render(if so_far.is_empty() { "MachineConfig" } else { &so_far }, schema))
}

fn render(name: &str, schema: Schema<'_>) -> String {
    let mut text = format!("{name} <{}>\n", type_name(schema));
    if let Some(description) = schema.description() {
        let _ = write!(text, "\n{description}\n");
    }
    if let Some(default) = schema.default().filter(|default| !default.is_object() && **default != Value::Null) {
        let _ = write!(text, "\nDefault: {default}\n");
    }
    for (value, meaning) in inner(schema).meanings() {
        let _ = write!(text, "\n  {value}: {}", meaning.unwrap_or("-"));
    }
    let holder = inner(schema);
    let required: Vec<&str> = holder.required().collect();
    let mut fields = holder.fields().peekable();
    if fields.peek().is_some() {
        text.push_str("\nFields:\n");
    }
    for (field, schema) in fields {
        let needed = if required.contains(&field) { ", required" } else { "" };
        let _ = writeln!(text, "  {field} <{}{needed}>", type_name(schema));
        if let Some(description) = schema.description() {
            let _ = writeln!(text, "      {}", description.replace('\n', "\n      "));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The schema of a list's items or a map's values, where there is one.
fn inner(schema: Schema<'_>) -> Schema<'_> {
    match schema.shape() {
        Shape::List(items) => inner(items),
        Shape::Map(values) => inner(values),
        _ => schema,
    }
}

fn type_name(schema: Schema<'_>) -> String {
    match schema.shape() {
        Shape::Any => "anything".to_owned(),
        Shape::Text { .. } if schema.is_secret() => "secret text".to_owned(),
        Shape::Text { format: "ip" } => "address".to_owned(),
        Shape::Text { format: "cidr" } => "network".to_owned(),
        Shape::Text { format: "addressrange" } => "addresses".to_owned(),
        Shape::Text { format: "timespan" } => "duration".to_owned(),
        Shape::Text { format: "bytesize" } => "size".to_owned(),
        Shape::Text { .. } => "text".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { .. } => "whole number".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::List(items) => format!("list of {}", type_name(items)),
        Shape::Map(values) => format!("map of {}", type_name(values)),
        Shape::Fields => "fields".to_owned(),
        Shape::Choice(texts) => texts.join(" | "),
        Shape::AnyOf(choices) => choices.into_iter().map(type_name).collect::<Vec<_>>().join(" or "),
    }
}
