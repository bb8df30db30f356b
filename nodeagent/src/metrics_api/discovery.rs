//! What clients find out about the two APIs before they ask: groups, versions and resources.
//!
//! The aggregator asks for everything in one answer. Where it does not get that, it asks for one group's version, and takes what it finds for all that
//! the Service serves (k8s.io/kube-aggregator, discoveryManager): of two groups behind one Service one would always be missing.

use controlplane::metrics_api::{Group, Pressure};
use serde_json::{Value, json};

use super::ask::Of;

/// Of everything in one answer; it is also what a client accepts who asks for that.
pub const EVERYTHING: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource that is there by itself, or one that stands behind another: `pods/pressure_cpu_some`.
struct Resource {
    of: Of,
    kind: &'static str,
    pressure: Option<Pressure>,
    verbs: &'static [&'static str],
}

fn all(group: Group) -> Vec<Resource> {
    let plain = |of, kind| Resource { of, kind, pressure: None, verbs: &["get", "list"] };
    let pressure = |of, pressure| Resource { of, kind: "MetricValueList", pressure: Some(pressure), verbs: &["get"] };
    match group {
        Group::Resource => vec![plain(Of::Nodes, "NodeMetrics"), plain(Of::Pods, "PodMetrics")],
        Group::Custom => [Of::Nodes, Of::Pods].map(|of| Pressure::ALL.map(|one| pressure(of, one))).into_iter().flatten().collect(),
    }
}

pub fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": Group::ALL.map(group) })
}

pub fn group(group: Group) -> Value {
    let version = json!({ "groupVersion": group.api_version(), "version": group.version() });
    json!({ "name": group.name(), "versions": [version], "preferredVersion": version })
}

/// `APIResourceList` of a group's version.
pub fn resources(group: Group) -> Value {
    let entry = |resource: Resource| {
        let behind = resource.pressure.map(|pressure| format!("/{}", pressure.name())).unwrap_or_default();
        json!({
            "name": format!("{}{behind}", resource.of.resource()),
            "singularName": "",
            "namespaced": resource.of == Of::Pods,
            "kind": resource.kind,
            "verbs": resource.verbs,
        })
    };
    let resources: Vec<Value> = all(group).into_iter().map(entry).collect();
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group.api_version(), "resources": resources })
}

/// `APIGroupDiscoveryList` (k8s.io/api, apidiscovery/v2).
pub fn everything() -> Value {
    let item = |group: Group| {
        let resources = [Of::Nodes, Of::Pods].map(|of| found(group, of));
        let version = json!({ "version": group.version(), "freshness": "Current", "resources": resources });
        json!({ "metadata": { "name": group.name() }, "versions": [version] })
    };
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": Group::ALL.map(item) })
}

/// A resource, and what stands behind it. One that cannot be asked for by itself has no verbs.
fn found(group: Group, of: Of) -> Value {
    let kind = |kind: &str| json!({ "group": group.name(), "version": group.version(), "kind": kind });
    let own: Vec<Resource> = all(group).into_iter().filter(|resource| resource.of == of).collect();
    let itself = own.iter().find(|resource| resource.pressure.is_none());
    let behind = own.iter().filter_map(|resource| {
        let name = resource.pressure?.name();
        Some(json!({ "subresource": name, "responseKind": kind(resource.kind), "verbs": resource.verbs }))
    });
    json!({
        "resource": of.resource(),
        "responseKind": itself.map_or(json!({ "group": "", "version": "", "kind": "" }), |itself| kind(itself.kind)),
        "scope": if of == Of::Pods { "Namespaced" } else { "Cluster" },
        "singularResource": "",
        "verbs": itself.map_or(&[][..], |itself| itself.verbs),
        "subresources": behind.collect::<Vec<Value>>(),
    })
}
