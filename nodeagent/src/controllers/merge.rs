//! Pass-through fields of the machine config over our own.

use serde_json::{Map, Value};

/// Lays `over` on `base`: objects are merged field by field, everything else is replaced.
pub fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Our defaults, then what the user says, then what nobody may change.
pub fn layered(defaults: Value, user: &Map<String, Value>, owned: Value) -> Map<String, Value> {
    let mut result = object(defaults);
    merge(&mut result, user);
    merge(&mut result, &object(owned));
    result
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_user_overrules_defaults_and_ours_overrule_the_user() {
        let user = object(json!({ "a": { "x": 1 }, "b": [1], "c": "user" }));
        let merged = layered(json!({ "a": { "x": 0, "y": 0 }, "b": [0, 0], "c": "default" }), &user, json!({ "c": "owned" }));
        assert_eq!(Value::Object(merged), json!({ "a": { "x": 1, "y": 0 }, "b": [1], "c": "owned" }));
    }
}
