//! Partial configs laid over whole ones: maps are merged, everything else is replaced, null removes (RFC 7396).

use serde_json::{Map, Value};

use super::canonical::ordered;
use super::report::{Path, Problem, Report};
use super::schema::document_schema;
use super::yaml::{self, print};

/// `patch` over `base`.
pub fn merge(base: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut merged = match base {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    for (name, change) in changes {
        if change.is_null() {
            merged.shift_remove(name);
        } else {
            let value = merge(merged.get(name).unwrap_or(&Value::Null), change);
            merged.insert(name.clone(), value);
        }
    }
    Value::Object(merged)
}

/// Lays a patch in YAML over a config in YAML and gives the config as text, not checked yet: [`super::load`] does that. Comments are lost.
pub fn patch(text: &str, source_name: &str, patch: &str, patch_name: &str) -> Result<String, Report> {
    let base = yaml::read_one(text, source_name)?.value();
    let change = yaml::read_one(patch, patch_name)?;
    let Value::Object(_) = change.value() else {
        let problem = Problem::new(&Path::root(), change.content.kind()).expected("a map, such as machine: {hostname: cp-1}");
        return Err(Report { source: patch_name.to_owned(), problems: vec![problem.at(change.place)] });
    };
    let merged = merge(&base, &change.value());
    // Fields that no config has stay where they are, so that the check can name them.
    let known = ordered(&merged, document_schema());
    Ok(print(&if known == merged { known } else { merged }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::yaml::tests::value;

    #[test]
    fn maps_merge_lists_replace_null_removes() {
        let base = json!({ "a": { "x": 1, "y": [1, 2] }, "b": 1 });
        let patch = json!({ "a": { "y": [3], "z": { "n": null, "m": 1 } }, "b": null });
        assert_eq!(merge(&base, &patch), json!({ "a": { "x": 1, "y": [3], "z": { "m": 1 } } }));
    }

    #[test]
    fn a_patch_is_a_map() {
        let error = patch("a: 1", "cp.yaml", "- a", "patch.yaml").unwrap_err();
        assert_eq!(error.to_string(), "patch.yaml:1:1: a list; expected a map, such as machine: {hostname: cp-1}");
        assert_eq!(patch("a: 1\nb: 2", "cp.yaml", "b: 3", "patch.yaml").unwrap(), "a: 1\nb: 3\n");
    }

    proptest! {
        #[test]
        fn an_empty_patch_changes_nothing(base in value()) {
            let base = json!({ "x": base });
            prop_assert_eq!(merge(&base, &json!({})), base);
        }

        #[test]
        fn a_patch_twice_is_a_patch_once(base in value(), change in value()) {
            let once = merge(&base, &change);
            prop_assert_eq!(merge(&once, &change), once);
        }
    }
}
