//! Patches to machine configs: JSON merge patches (RFC 7386) in YAML. Maps are merged, `null` removes, all else replaces.

use std::path::Path;

use machine::config::yaml;
use serde_json::Value;

use crate::failure::Failure;
use crate::files;

/// Reads a patch as given on the command line: `@FILE`, a file's path, or the YAML itself. A path has no `: ` in it, a YAML map has to.
pub fn read(argument: &str) -> Result<Value, Failure> {
    let inline = argument.contains(": ") || argument.contains(":\n") || argument.trim_start().starts_with('{') || argument.ends_with(':');
    let (text, name) = match argument.strip_prefix('@') {
        None if inline => (argument.to_owned(), "patch".to_owned()),
        path => {
            let path = path.unwrap_or(argument);
            (files::read_text(Path::new(path))?, path.to_owned())
        }
    };
    let patch = yaml::read_one(&text, &name)?.value();
    if patch.is_object() { Ok(patch) } else { Err(Failure::new(name, "a patch is a map of the fields to change")) }
}

/// What the target is after the patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_as_the_rfc_says() {
        // RFC 7386, appendix A: original, patch, result.
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn a_patch_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "machine:\n  hostname: cp-1\n").expect("write");
        let path = file.path().to_str().expect("text");
        let expected = json!({"machine": {"hostname": "cp-1"}});
        for argument in [
            "machine: { hostname: cp-1 }",
            "machine:\n  hostname: cp-1",
            "{\"machine\":{\"hostname\":\"cp-1\"}}",
            path,
            &format!("@{path}"),
        ] {
            assert_eq!(read(argument).expect(argument), expected);
        }
        assert!(read("no-such-file").expect_err("no file").to_string().starts_with("no-such-file: "));
        assert!(read("- : x\n").is_err());
    }
}
