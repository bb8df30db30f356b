//! Who may do what, beyond Kubernetes' own bootstrap policy (which has kube-proxy, controller manager and scheduler already).

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use machine::config::Config;

use super::{AGENTS, API_SERVERS, CLUSTER_ADMINS, LOAD_BALANCERS, Manifest, ManifestError, RELIEVERS, labels};
use crate::metrics_api::Pressure;

/// Binding, group, role.
const BINDINGS: [(&str, &str, &str); 5] = [
    ("corten:cluster-admins", CLUSTER_ADMINS, "cluster-admin"),
    ("corten:api-servers", API_SERVERS, "system:kubelet-api-admin"),
    ("corten:agents", AGENTS, "corten:agent"),
    ("corten:relievers", RELIEVERS, "corten:reliever"),
    ("corten:load-balancers", LOAD_BALANCERS, "corten:load-balancer"),
];

pub(super) fn manifests(config: &Config) -> Result<Vec<Manifest>, ManifestError> {
    let roles = [agent_role(), reliever_role(), load_balancer_role()].into_iter().chain(config.cluster.metrics.api.then(metrics_reader));
    let roles = roles.map(|role| Manifest::of(&role));
    let bindings = BINDINGS.iter().map(|(name, group, role)| Manifest::of(&binding(name, group, role)));
    roles.chain(bindings).collect()
}

/// What overlay, network policy and metrics watch; the node authorizer shows a kubelet's certificate its own Node only. The requests by
/// which an agent gets its kubelet's first certificate: nobody's are granted but by the agents of control planes. And the questions
/// who asks for metrics, and whether he may have them.
fn agent_role() -> ClusterRole {
    let read = |group: &str, resources: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    let ask = |group: &str, resource: &str| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: vec!["create".to_owned()],
        ..PolicyRule::default()
    };
    ClusterRole {
        metadata: metadata("corten:agent"),
        rules: Some(vec![
            read("", &["namespaces", "nodes", "pods", "services"]),
            read("discovery.k8s.io", &["endpointslices"]),
            read("networking.k8s.io", &["networkpolicies"]),
            PolicyRule {
                api_groups: Some(vec!["certificates.k8s.io".to_owned()]),
                resources: Some(vec!["certificatesigningrequests".to_owned()]),
                verbs: ["create", "get"].map(str::to_owned).to_vec(),
                ..PolicyRule::default()
            },
            ask("authentication.k8s.io", "tokenreviews"),
            ask("authorization.k8s.io", "subjectaccessreviews"),
        ]),
        ..ClusterRole::default()
    }
}

/// Whoever may view what is in a namespace may see what its pods use, as metrics-server has it; nodes are for who is given this role, and for
/// cluster-admins.
fn metrics_reader() -> ClusterRole {
    let read = |group: &str, resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    let pressures = ["nodes", "pods"].map(|of| Pressure::ALL.map(|pressure| format!("{of}/{}", pressure.name()))).concat();
    let pressures: Vec<&str> = pressures.iter().map(String::as_str).collect();
    let mut metadata = metadata("corten:metrics-reader");
    let aggregated = ["admin", "edit", "view"].map(|role| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), "true".to_owned()));
    metadata.labels.get_or_insert_default().extend(aggregated);
    ClusterRole {
        metadata,
        rules: Some(vec![
            read("metrics.k8s.io", &["nodes", "pods"], &["get", "list", "watch"]),
            read("custom.metrics.k8s.io", &pressures, &["get"]),
        ]),
        ..ClusterRole::default()
    }
}

/// What it takes to relieve a node under pressure, and no more: a taint, an eviction, and an event that says why.
fn reliever_role() -> ClusterRole {
    ClusterRole {
        metadata: metadata("corten:reliever"),
        rules: Some(vec![
            rule("nodes", &["get", "patch"]),
            rule("pods", &["list"]),
            rule("pods/eviction", &["create"]),
            rule("events", &["create"]),
        ]),
        ..ClusterRole::default()
    }
}

/// What it takes to give Services addresses, and no more: their status, and an event that says what one lacks.
fn load_balancer_role() -> ClusterRole {
    ClusterRole {
        metadata: metadata("corten:load-balancer"),
        rules: Some(vec![rule("services/status", &["patch"]), rule("events", &["create"])]),
        ..ClusterRole::default()
    }
}

/// Of the core group.
fn rule(resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn binding(name: &str, group: &str, role: &str) -> ClusterRoleBinding {
    const RBAC: &str = "rbac.authorization.k8s.io";
    ClusterRoleBinding {
        metadata: metadata(name),
        role_ref: RoleRef { api_group: Some(RBAC.to_owned()), kind: "ClusterRole".to_owned(), name: role.to_owned() },
        subjects: Some(vec![Subject {
            api_group: Some(RBAC.to_owned()),
            kind: "Group".to_owned(),
            name: group.to_owned(),
            namespace: None,
        }]),
    }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels()), ..ObjectMeta::default() }
}
