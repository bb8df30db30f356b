//! The user's manifests: YAML text with one or more objects.

use serde_json::Value;

use super::{Manifest, ManifestError};

/// Objects in their order; empty documents are skipped, a `List` is its items.
pub(super) fn parse(name: &str, contents: &str) -> Result<Vec<Manifest>, ManifestError> {
    let unreadable = |source: serde_saphyr::Error| ManifestError::Parse { name: name.to_owned(), source: source.into() };
    let documents: Vec<Value> = serde_saphyr::from_multiple(contents).map_err(unreadable)?;
    let objects = documents.into_iter().filter(|document| !document.is_null()).flat_map(items);
    objects.enumerate().map(|(index, object)| Manifest::of_user(object, name, index + 1)).collect()
}

fn items(document: Value) -> Vec<Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind == "List" || kind.ends_with("List"));
    match document {
        Value::Object(mut fields) if is_list && fields.get("items").is_some_and(Value::is_array) => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_become_objects_in_order() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: \
                    apps/v1\n  kind: DaemonSet\n  metadata: {name: b, namespace: a}\n";
        let objects = parse("x", text).expect("readable");
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["Namespace/a", "DaemonSet.apps/a/b"]);
        assert_eq!(objects[0].object["metadata"]["annotations"]["corten.dev/manifest"], "x");
        assert_eq!((objects[1].reference.group(), objects[1].reference.version()), ("apps", "v1"));
    }

    #[test]
    fn what_is_no_object_is_named() {
        let wrong = parse("x", "apiVersion: v1\nkind: Namespace\n").expect_err("has no name");
        assert!(wrong.to_string().starts_with("manifest \"x\", object 1: metadata.name is missing"), "{wrong}");
        assert!(parse("x", "a: [").is_err());
        assert!(parse("x", "just text").is_err());
    }
}
