//! Kubernetes objects inside of the machine config: static pods and manifests. Only what tells one object from another is checked here;
//! the rest is for the kubelet and the API server.

use serde_json::{Map, Value};

use super::Check;
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::yaml;
use crate::config::{Config, Manifest};

pub fn check(config: &Config, check: &mut Check<'_>) {
    static_pods(&config.machine.static_pods, check);
    let path = Path::of("cluster.manifests");
    for (index, manifest) in config.cluster.manifests.iter().enumerate() {
        each_manifest(&path.item(index), manifest, check);
    }
    check.refuse_repeats(&path, config.cluster.manifests.iter().map(|manifest| (manifest.name.clone(), manifest.name.clone())));
}

fn static_pods(pods: &[Map<String, Value>], check: &mut Check<'_>) {
    let list = Path::of("machine.staticPods");
    for (index, pod) in pods.iter().enumerate() {
        let path = list.item(index);
        for (field, only) in [("apiVersion", "v1"), ("kind", "Pod")] {
            match pod.get(field) {
                Some(Value::String(text)) if text == only => {}
                Some(other) => check.add(&path.key(field), quoted_value(other), only, "a static pod is a Pod object"),
                None => check.add(&path.key(field), "missing field", only, "a static pod is a Pod object"),
            }
        }
        if !name_of(pod).is_some_and(names::is_dns_subdomain) {
            let found = name_of(pod).map_or_else(|| "missing field".to_owned(), quoted);
            check.add(&path.key("metadata").key("name"), found, "the pod's name: a DNS name", "");
        }
        let containers = pod.get("spec").and_then(|spec| spec.get("containers")).and_then(Value::as_array);
        if containers.is_none_or(Vec::is_empty) {
            check.add(&path.key("spec").key("containers"), "missing field", "at least one container", "");
        }
    }
    let named = pods.iter().map(|pod| {
        let namespace = pod.get("metadata").and_then(|metadata| metadata.get("namespace")).and_then(Value::as_str).unwrap_or("default");
        format!("{namespace}/{}", name_of(pod).unwrap_or_default())
    });
    check.refuse_repeats(&list, named.map(|name| (name.clone(), name)));
}

fn each_manifest(path: &Path, manifest: &Manifest, check: &mut Check<'_>) {
    if !names::is_dns_subdomain(&manifest.name) {
        check.add(&path.key("name"), quoted(&manifest.name), "a DNS name, such as cloud-controller", "");
    }
    let path = path.key("contents");
    let documents = match yaml::read_all(&manifest.contents, "contents") {
        Ok(documents) => documents,
        Err(report) => {
            for problem in report.problems {
                // Lines count from the manifest's first; its text may be a secret, so that only the place and the complaint are shown.
                check.add(&path, format!("line {} of it: {}", problem.line, problem.message()), "", "");
            }
            return;
        }
    };
    if documents.is_empty() {
        check.add(&path, "no object", "one or more Kubernetes objects in YAML", "");
    }
    for document in &documents {
        let line = document.place.line;
        let value = document.value();
        let Value::Object(object) = &value else {
            check.add(&path, format!("line {line} of it: {}", document.content.kind()), "a Kubernetes object", "");
            continue;
        };
        let is_list = object.get("items").is_some_and(Value::is_array);
        for (field, there) in [
            ("apiVersion", object.get("apiVersion").is_some_and(Value::is_string)),
            ("kind", object.get("kind").is_some_and(Value::is_string)),
            ("metadata.name", is_list || name_of(object).is_some()),
        ] {
            if !there {
                check.add(&path, format!("an object without {field}, beginning in line {line} of it"), "Kubernetes objects", "");
            }
        }
    }
}

fn name_of(object: &Map<String, Value>) -> Option<&str> {
    object.get("metadata")?.get("name")?.as_str()
}

fn quoted_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        other => other.to_string(),
    }
}
