//! Fields as the API server names them in a conflict: `.spec.template.spec.containers[name="coredns"].image` (fieldpath in
//! sigs.k8s.io/structured-merge-diff). Names may have dots in them, so that only the object can tell where one ends.

use serde_json::Value;

/// Takes a field out of an object, and what is empty without it; whether it was there.
pub fn remove(value: &mut Value, path: &str) -> bool {
    match value {
        Value::Object(fields) => {
            let Some(path) = path.strip_prefix('.') else { return false };
            let candidates: Vec<String> = fields.keys().filter(|key| path.starts_with(key.as_str())).cloned().collect();
            candidates.iter().any(|key| {
                let rest = &path[key.len()..];
                if rest.is_empty() {
                    return fields.remove(key).is_some();
                }
                let Some(inner) = fields.get_mut(key) else { return false };
                let removed = remove(inner, rest);
                if removed && is_empty(inner) {
                    fields.remove(key);
                }
                removed
            })
        }
        Value::Array(items) => {
            let Some((selector, rest)) = path.strip_prefix('[').and_then(split_selector) else { return false };
            let Some(index) = items.iter().enumerate().position(|(index, item)| selects(selector, index, item)) else { return false };
            if rest.is_empty() {
                items.remove(index);
                return true;
            }
            // An item stays: its keys are what tells it from the others.
            remove(&mut items[index], rest)
        }
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// `name="coredns"].image` into what is in the brackets and what follows them; a bracket in a quoted value is none.
fn split_selector(text: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return Some((&text[..index], &text[index + 1..])),
            _ => {}
        }
    }
    None
}

/// An index, a value (`="x"`), or values of keys (`containerPort=53,protocol="TCP"`).
fn selects(selector: &str, index: usize, item: &Value) -> bool {
    if let Ok(number) = selector.parse::<usize>() {
        return number == index;
    }
    if let Some(value) = selector.strip_prefix('=') {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    // As a map in JSON: values are written as JSON writes them.
    let mut rest = selector;
    while !rest.is_empty() {
        let Some((key, text)) = rest.split_once('=') else { return false };
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else { return false };
        if item.get(key) != Some(&value) {
            return false;
        }
        let after = &text[values.byte_offset()..];
        rest = after.strip_prefix(',').unwrap_or(after);
        if rest.len() == after.len() && !rest.is_empty() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": { "annotations": { "prometheus.io/port": "9153", "prometheus.io": "x" }, "finalizers": ["a/b", "c"] },
            "data": { "Corefile": "." },
            "spec": { "containers": [
                { "name": "a]", "image": "1" },
                { "name": "coredns", "image": "2", "ports": [{ "containerPort": 53, "protocol": "UDP" }, { "containerPort": 53, "protocol": "TCP" }] },
            ] },
        })
    }

    #[test]
    fn fields_are_found_as_the_api_server_names_them() {
        for (path, pointer) in [
            (".data.Corefile", "/data"),
            (".metadata.annotations.prometheus.io/port", "/metadata/annotations/prometheus.io~1port"),
            (".spec.containers[name=\"coredns\"].image", "/spec/containers/1/image"),
            (".spec.containers[name=\"a]\"].image", "/spec/containers/0/image"),
            (".spec.containers[name=\"coredns\"].ports[containerPort=53,protocol=\"TCP\"].protocol", "/spec/containers/1/ports/1/protocol"),
            (".spec.containers[name=\"coredns\"].ports[containerPort=53,protocol=\"TCP\"]", "/spec/containers/1/ports/1"),
            (".metadata.finalizers[=\"c\"]", "/metadata/finalizers/1"),
            (".metadata.finalizers[1]", "/metadata/finalizers/1"),
        ] {
            let mut changed = object();
            assert!(changed.pointer(pointer).is_some(), "{pointer}");
            assert!(remove(&mut changed, path), "{path}");
            assert_eq!(changed.pointer(pointer), None, "{path}: {changed}");
        }
    }

    #[test]
    fn what_is_not_there_changes_nothing() {
        for path in [
            "",
            "data",
            ".dat",
            ".data.Core",
            ".spec.containers[name=\"b\"].image",
            ".spec.containers[name=",
            ".data.Corefile.x",
            ".spec[0]",
        ] {
            let mut same = object();
            assert!(!remove(&mut same, path), "{path}");
            assert_eq!(same, object());
        }
    }
}
