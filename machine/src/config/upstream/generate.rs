//! Makes `fields.json` from upstream's Go types: struct fields with their JSON names. It reads just as much of Go as those files use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Module and file; the first match of a type's name counts.
const FILES: [(&str, &str); 8] = [
    ("k8s.io/kubelet", "config/v1beta1/types.go"),
    ("k8s.io/kube-proxy", "config/v1alpha1/types.go"),
    ("k8s.io/kube-scheduler", "config/v1/types.go"),
    ("k8s.io/apiserver", "pkg/apis/audit/v1/types.go"),
    ("k8s.io/component-base", "config/v1alpha1/types.go"),
    ("k8s.io/component-base", "logs/api/v1/types.go"),
    ("k8s.io/component-base", "tracing/api/v1/types.go"),
    ("k8s.io/apimachinery", "pkg/apis/meta/v1/types.go"),
];
const ROOTS: [&str; 4] = ["KubeletConfiguration", "KubeProxyConfiguration", "KubeSchedulerConfiguration", "Policy"];

/// A struct's fields (JSON name, Go type; no name: embedded) or what a named type stands for.
enum GoType {
    Struct(Vec<(String, String)>),
    Alias(String),
}

#[test]
#[ignore = "needs Kubernetes' modules in GOMODCACHE; see upstream/README.md"]
fn fields_are_those_of_the_pinned_version() {
    let cache = PathBuf::from(std::env::var_os("GOMODCACHE").expect("GOMODCACHE names Go's module cache"));
    let version = pinned_version();
    let mut types = BTreeMap::new();
    for (module, file) in FILES {
        let path = cache.join(format!("{module}@{version}")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (name, go) in parse(&text) {
            types.entry(name).or_insert(go);
        }
    }
    let mut definitions = BTreeMap::new();
    for root in ROOTS {
        define(root, &types, &mut definitions);
    }
    assert!(ROOTS.iter().all(|root| definitions.contains_key(*root)));
    let schema = json!({ "$comment": format!("Field names and types of Kubernetes {version}; see README.md."), "$defs": definitions });
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/upstream/fields.json");
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

/// The staging modules' version: v0.37.1 belongs to Kubernetes v1.37.1.
fn pinned_version() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../components/kubernetes/go.mod");
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.trim().starts_with("k8s.io/kubernetes v1.")).expect("go.mod names k8s.io/kubernetes");
    let version = line.split_whitespace().nth(1).unwrap();
    version.replacen("v1.", "v0.", 1)
}

fn parse(text: &str) -> Vec<(String, GoType)> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("type ") else { continue };
        let Some((name, what)) = rest.split_once(' ') else { continue };
        if what.trim() != "struct {" {
            found.push((name.to_owned(), GoType::Alias(what.trim_start_matches('=').trim().to_owned())));
            continue;
        }
        let fields = lines.by_ref().take_while(|line| *line != "}").filter_map(field).collect();
        found.push((name.to_owned(), GoType::Struct(fields)));
    }
    found
}

/// `Name Type` and a tag, or an embedded `Type` and a tag.
fn field(line: &str) -> Option<(String, String)> {
    let (declaration, tag) = line.split_once('`')?;
    let json = tag.split_once("json:\"")?.1.split_once('"')?.0;
    let name = json.split(',').next().unwrap_or_default();
    let words: Vec<&str> = declaration.split_whitespace().collect();
    match words.as_slice() {
        [embedded] => Some((name.to_owned(), (*embedded).to_owned())),
        [_, kind] => Some((name.to_owned(), (*kind).to_owned())),
        _ => None,
    }
}

fn define(name: &str, types: &BTreeMap<String, GoType>, definitions: &mut BTreeMap<String, Value>) {
    if definitions.contains_key(name) {
        return;
    }
    let Some(GoType::Struct(_)) = types.get(name) else { return };
    definitions.insert(name.to_owned(), Value::Null);
    let mut properties = BTreeMap::new();
    collect(name, types, &mut properties, &mut BTreeSet::new());
    let properties: Map<String, Value> =
        properties.into_iter().map(|(field, kind)| (field, schema_of(&kind, types, definitions))).collect();
    definitions.insert(name.to_owned(), json!({ "type": "object", "additionalProperties": false, "properties": properties }));
}

/// Fields with those of embedded structs.
fn collect(name: &str, types: &BTreeMap<String, GoType>, into: &mut BTreeMap<String, String>, seen: &mut BTreeSet<String>) {
    let Some(GoType::Struct(fields)) = types.get(name) else { return };
    if !seen.insert(name.to_owned()) {
        return;
    }
    for (field, kind) in fields {
        if field.is_empty() {
            collect(local_name(kind), types, into, seen);
        } else if field != "-" {
            into.insert(field.clone(), kind.clone());
        }
    }
}

fn schema_of(kind: &str, types: &BTreeMap<String, GoType>, definitions: &mut BTreeMap<String, Value>) -> Value {
    if let Some(kind) = kind.strip_prefix('*') {
        return schema_of(kind, types, definitions);
    }
    if let Some(kind) = kind.strip_prefix("map[") {
        let (_, value) = kind.split_once(']').expect("a map's key ends");
        return json!({ "type": "object", "additionalProperties": schema_of(value, types, definitions) });
    }
    match kind {
        "string" | "[]byte" => return json!({ "type": "string" }),
        "bool" => return json!({ "type": "boolean" }),
        "float32" | "float64" => return json!({ "type": "number" }),
        "metav1.Duration" => return json!({ "type": "string", "format": "go-duration" }),
        // Anything, or a type whose JSON is not that of its fields.
        "runtime.RawExtension" | "TimeOrMetaDuration" | "metav1.ObjectMeta" | "metav1.Time" => return json!({}),
        "int" | "int32" | "int64" | "uint" | "uint32" | "uint64" => return json!({ "type": "integer" }),
        _ => {}
    }
    if let Some(kind) = kind.strip_prefix("[]") {
        return json!({ "type": "array", "items": schema_of(kind, types, definitions) });
    }
    let name = local_name(kind);
    match types.get(name) {
        Some(GoType::Struct(_)) => {
            define(name, types, definitions);
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        Some(GoType::Alias(target)) => schema_of(&target.clone(), types, definitions),
        None => json!({}),
    }
}

fn local_name(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}
