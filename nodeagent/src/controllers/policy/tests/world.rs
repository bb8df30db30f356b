//! Clusters for tests, as the API has them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::controllers::policy::cluster::Cluster;
use crate::controllers::policy::compile::Own;
use crate::controllers::policy::watch::cluster;

#[derive(Debug, Clone, Default)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
}

impl World {
    pub fn cluster(&self) -> Cluster {
        let pods: Vec<_> = self.pods.iter().map(|pod| serde_json::from_value(serde_json::to_value(pod).unwrap()).unwrap()).collect();
        cluster(&self.namespaces, &self.policies, &pods)
    }

    /// Those of pods, some of nobody, and those beyond the cluster.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let others = ["10.244.1.99", "10.244.2.99", "192.0.2.9", "192.0.2.200", "fd00:0:0:1::99", "2001:db8::9"];
        let pods = self.pods.iter().flat_map(|pod| pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten()));
        pods.map(|ip| ip.ip.parse().unwrap()).chain(others.map(|other| other.parse().unwrap())).collect()
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in self.namespaces.iter().map(|object| json!(object)).chain(self.pods.iter().map(|pod| json!(pod))) {
            writeln!(f, "{object}")?;
        }
        self.policies.iter().try_for_each(|policy| writeln!(f, "{}", json!(policy)))
    }
}

/// The machine whose table is made.
pub fn own() -> Own {
    Own { node: "here".to_owned(), pod_networks: vec!["10.244.1.0/24".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap()] }
}

pub fn namespace(name: &str, labels: Value) -> Namespace {
    serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap()
}

/// On node `here` or `there`, the number being the end of its addresses. Port `web` is 80 of TCP, or 8080.
pub fn pod(namespace: &str, name: &str, labels: Value, node: &str, number: u8, web: u16) -> Pod {
    let third = if node == "here" { 1 } else { 2 };
    serde_json::from_value(json!({
        "metadata": { "namespace": namespace, "name": name, "labels": labels },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "ports": [
            { "name": "web", "containerPort": web },
            { "name": "dns", "containerPort": 53, "protocol": "UDP" },
        ] }] },
        "status": { "podIPs": [{ "ip": format!("10.244.{third}.{number}") }, { "ip": format!("fd00:0:0:{third}::{number}") }] },
    }))
    .unwrap()
}

pub fn policy(namespace: &str, name: &str, spec: &str) -> NetworkPolicy {
    let spec: Value = serde_json::from_str(spec).unwrap();
    serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec })).unwrap()
}

/// One of everything.
pub fn example() -> World {
    World {
        namespaces: vec![namespace("shop", json!({ "team": "a" })), namespace("bank", json!({ "team": "b" }))],
        pods: vec![
            pod("shop", "near", json!({ "app": "web" }), "here", 2, 80),
            pod("shop", "far", json!({ "app": "web" }), "there", 2, 8080),
            pod("bank", "vault", json!({ "app": "db" }), "here", 3, 80),
        ],
        policies: vec![
            policy(
                "shop",
                "all-kinds",
                r#"{ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress", "Egress"],
                    "ingress": [
                        { "from": [{ "podSelector": {} }, { "namespaceSelector": { "matchLabels": { "team": "b" } } }],
                          "ports": [{ "port": "web" }, { "protocol": "UDP", "port": 53 }] },
                        { "from": [{ "ipBlock": { "cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"] } }],
                          "ports": [{ "port": 80, "endPort": 90 }, { "protocol": "SCTP" }] }
                    ],
                    "egress": [{ "ports": [{ "port": "web" }] }, { "to": [{ "ipBlock": { "cidr": "2001:db8::/32" } }] }] }"#,
            ),
            policy("bank", "deny", r#"{ "podSelector": {}, "policyTypes": ["Ingress"] }"#),
        ],
    }
}

/// Worlds of a few pods on two nodes and a few policies.
pub fn any() -> impl Strategy<Value = World> {
    let pods = prop::collection::vec((0..3usize, labels(), prop::bool::ANY, prop_oneof![Just(80u16), Just(8080)]), 1..7);
    let policies = prop::collection::vec((0..3usize, spec()), 0..4);
    (prop::collection::vec(labels(), 2..=3), pods, policies).prop_map(|(namespaces, pods, policies)| {
        let name = |index: usize| ["one", "two", "three"][index];
        // The third namespace may not be known yet.
        let namespaces = namespaces.into_iter().enumerate().map(|(index, labels)| namespace(name(index), labels));
        let pods = pods.into_iter().zip(2u8..).map(|((namespace, labels, here, web), number)| {
            pod(name(namespace), &format!("pod-{number}"), labels, if here { "here" } else { "there" }, number, web)
        });
        let policies = policies
            .into_iter()
            .enumerate()
            .map(|(number, (namespace, spec))| policy(name(namespace), &format!("policy-{number}"), &spec.to_string()));
        World { namespaces: namespaces.collect(), pods: pods.collect(), policies: policies.collect() }
    })
}

fn labels() -> impl Strategy<Value = Value> {
    (prop::option::of(word()), prop::option::of(word())).prop_map(|(app, tier)| {
        let pairs = [("app", app), ("tier", tier)].into_iter();
        Value::Object(pairs.filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect())
    })
}

fn word() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b")]
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || prop_oneof![Just("app"), Just("tier")];
    let operator = prop_oneof![Just("In"), Just("NotIn"), Just("Exists"), Just("DoesNotExist")];
    prop_oneof![
        Just(json!({})),
        labels().prop_map(|labels| json!({ "matchLabels": labels })),
        (key(), operator, prop::collection::vec(word(), 1..3)).prop_map(|(key, operator, values)| {
            let values = if operator.ends_with("In") { json!(values) } else { Value::Null };
            json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
        }),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let block = prop_oneof![
        Just(json!({ "cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"] })),
        Just(json!({ "cidr": "0.0.0.0/0" })),
        Just(json!({ "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.0.2.128/25"] })),
        Just(json!({ "cidr": "192.0.2.0/24" })),
        Just(json!({ "cidr": "::/0", "except": ["fd00::/16"] })),
        Just(json!({ "cidr": "fd00:0:0:1::/64" })),
    ];
    prop_oneof![
        2 => selector().prop_map(|pods| json!({ "podSelector": pods })),
        1 => selector().prop_map(|namespaces| json!({ "namespaceSelector": namespaces })),
        1 => (selector(), selector()).prop_map(|(namespaces, pods)| json!({ "namespaceSelector": namespaces, "podSelector": pods })),
        2 => block.prop_map(|block| json!({ "ipBlock": block })),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({ "protocol": "SCTP" })),
        Just(json!({ "port": 80 })),
        Just(json!({ "port": 81, "endPort": 8080 })),
        Just(json!({ "protocol": "UDP", "port": 1, "endPort": 79 })),
        Just(json!({ "port": "web" })),
        Just(json!({ "protocol": "UDP", "port": "dns" })),
        Just(json!({ "protocol": "UDP", "port": "web" })),
        Just(json!({ "protocol": "SCTP", "port": 80 })),
    ]
}

fn spec() -> impl Strategy<Value = Value> {
    let list = |peers: &'static str| {
        (prop::option::of(prop::collection::vec(peer(), 0..3)), prop::option::of(prop::collection::vec(port(), 0..3))).prop_map(
            move |(from, ports)| {
                let mut rule = serde_json::Map::new();
                rule.extend(from.map(|from| (peers.to_owned(), json!(from))));
                rule.extend(ports.map(|ports| ("ports".to_owned(), json!(ports))));
                Value::Object(rule)
            },
        )
    };
    let rules = |peers| prop::option::of(prop::collection::vec(list(peers), 0..3));
    let types = prop_oneof![Just(json!(["Ingress"])), Just(json!(["Egress"])), Just(json!(["Ingress", "Egress"])), Just(Value::Null)];
    (selector(), rules("from"), rules("to"), types).prop_map(
        |(selector, ingress, egress, types)| json!({ "podSelector": selector, "ingress": ingress, "egress": egress, "policyTypes": types }),
    )
}
