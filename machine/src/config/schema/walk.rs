//! Steps through a JSON schema: from a field to its fields, without the detours (`$ref`) that the text of a schema takes.

use serde_json::{Map, Value};

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    root: &'a Value,
    here: &'a Value,
    /// The schema that `here` refers to; `here` itself where it refers to none.
    resolved: &'a Value,
}

/// What a schema allows.
#[derive(Debug)]
pub enum Shape<'a> {
    Any,
    Text {
        format: &'a str,
    },
    Boolean,
    Integer {
        least: Option<i64>,
        most: Option<i64>,
    },
    Number,
    List(Schema<'a>),
    /// Any keys.
    Map(Schema<'a>),
    /// Known keys.
    Fields,
    /// One of these texts.
    Choice(Vec<&'a str>),
    /// Any of these.
    AnyOf(Vec<Schema<'a>>),
}

impl<'a> Schema<'a> {
    pub fn root(schema: &'a Value) -> Schema<'a> {
        Schema { root: schema, here: schema, resolved: schema }
    }

    /// A definition of the schema, by name.
    pub fn definition(self, name: &str) -> Option<Schema<'a>> {
        self.root.get("$defs")?.get(name).map(|here| self.at(here))
    }

    pub fn shape(self) -> Shape<'a> {
        let text = |name: &str| self.resolved.get(name).and_then(Value::as_str);
        let integer = |name: &str| self.resolved.get(name).and_then(Value::as_i64);
        if let Some(choices) = self.choices() {
            return Shape::Choice(choices);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = self.resolved.get(name) {
                return Shape::AnyOf(choices.iter().map(|choice| self.at(choice)).collect());
            }
        }
        match text("type") {
            Some("string") => Shape::Text { format: text("format").unwrap_or_default() },
            Some("boolean") => Shape::Boolean,
            Some("integer") => Shape::Integer { least: integer("minimum"), most: integer("maximum") },
            Some("number") => Shape::Number,
            Some("array") => self.resolved.get("items").map_or(Shape::Any, |items| Shape::List(self.at(items))),
            Some("object") if self.resolved.get("properties").is_some() => Shape::Fields,
            Some("object") => match self.resolved.get("additionalProperties") {
                Some(values @ Value::Object(_)) => Shape::Map(self.at(values)),
                Some(Value::Bool(false)) => Shape::Fields,
                _ => Shape::Any,
            },
            _ => Shape::Any,
        }
    }

    pub fn field(self, name: &str) -> Option<Schema<'a>> {
        self.properties()?.get(name).map(|here| self.at(here))
    }

    /// In the order of the types.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        self.properties().into_iter().flatten().map(move |(name, here)| (name.as_str(), self.at(here)))
    }

    pub fn required(self) -> impl Iterator<Item = &'a str> {
        self.resolved.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether values are masked for readers.
    pub fn is_secret(self) -> bool {
        [self.here, self.resolved].iter().any(|schema| schema.get("writeOnly") == Some(&Value::Bool(true)))
    }

    pub fn default(self) -> Option<&'a Value> {
        self.here.get("default").or_else(|| self.resolved.get("default"))
    }

    /// The field's own words, else those of its type.
    pub fn description(self) -> Option<&'a str> {
        [self.here, self.resolved].iter().find_map(|schema| schema.get("description")).and_then(Value::as_str)
    }

    /// The texts of an enum, with what each means.
    pub fn meanings(self) -> Vec<(&'a str, Option<&'a str>)> {
        let meaning = |choice: &'a Value| Some((choice.get("const")?.as_str()?, choice.get("description").and_then(Value::as_str)));
        self.resolved.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(meaning).collect()
    }

    fn choices(self) -> Option<Vec<&'a str>> {
        if let Some(only) = self.here.get("const").and_then(Value::as_str) {
            return Some(vec![only]);
        }
        if let Some(Value::Array(texts)) = self.resolved.get("enum") {
            return texts.iter().map(Value::as_str).collect();
        }
        let Some(Value::Array(choices)) = self.resolved.get("oneOf") else { return None };
        let texts = choices.iter().map(|choice| match (choice.get("const"), choice.get("enum")) {
            (Some(only), _) => only.as_str().map(|only| vec![only]),
            (None, Some(Value::Array(texts))) => texts.iter().map(Value::as_str).collect(),
            _ => None,
        });
        texts.collect::<Option<Vec<_>>>().map(|texts| texts.concat())
    }

    fn properties(self) -> Option<&'a Map<String, Value>> {
        self.resolved.get("properties")?.as_object()
    }

    fn at(self, here: &'a Value) -> Schema<'a> {
        let mut resolved = here;
        while let Some(target) = resolved.get("$ref").and_then(Value::as_str).and_then(|name| self.root.pointer(name.strip_prefix('#')?)) {
            resolved = target;
        }
        Schema { root: self.root, here, resolved }
    }
}
