//! What upstream's tests of network policies try (kubernetes/test/e2e/network/netpol), with packets: all pairs of nine pods, three of which
//! are on another machine.

use std::collections::{BTreeMap, BTreeSet};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::lab::{Lab, PODS, PORTS, Reached, Row, all_but};
use super::world::{self, own, policy};
use super::{Flow, reference};

const BOTH: &[u16] = &[80, 81];

/// What it is called, policies by namespace, and what is blocked.
struct Case {
    name: &'static str,
    policies: &'static [(&'static str, &'static str)],
    blocked: &'static [Row],
}

const DENY: &str = r#"{ "podSelector": {}, "policyTypes": ["Ingress"] }"#;
const ALLOW: &str = r#"{ "podSelector": {}, "ingress": [{}] }"#;

const CASES: &[Case] = &[
    Case { name: "default deny of ingress", policies: &[("x", DENY)], blocked: &[("*", "x/*", BOTH)] },
    Case {
        name: "default deny of all",
        policies: &[("x", r#"{ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }"#)],
        blocked: &[("*", "x/*", BOTH), ("x/*", "*", BOTH)],
    },
    Case { name: "allow all", policies: &[("x", ALLOW)], blocked: &[] },
    Case { name: "deny all and allow all together", policies: &[("x", DENY), ("x", ALLOW)], blocked: &[] },
    Case { name: "a policy of another namespace", policies: &[("y", DENY)], blocked: &[("*", "y/*", BOTH)] },
    Case {
        name: "pods of the own namespace by label",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "podSelector": { "matchLabels": { "pod": "b" } } }] }] }"#,
        )],
        blocked: &[("x/c", "x/a", BOTH), ("y/*", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "namespaces by label",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "all namespaces",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": {} }] }] }"#)],
        blocked: &[],
    },
    Case {
        name: "namespaces by expressions",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [{ "namespaceSelector": {
            "matchExpressions": [{ "key": "ns", "operator": "NotIn", "values": ["x", "y"] }] } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/*", "x/a", BOTH)],
    },
    Case {
        name: "pods and namespaces",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [{
            "namespaceSelector": { "matchExpressions": [{ "key": "ns", "operator": "NotIn", "values": ["x"] }] },
            "podSelector": { "matchExpressions": [{ "key": "pod", "operator": "In", "values": ["b", "c"] }] } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/a", "x/a", BOTH), ("z/a", "x/a", BOTH)],
    },
    Case {
        name: "pods or namespaces",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [
            { "namespaceSelector": { "matchLabels": { "ns": "y" } } }, { "podSelector": { "matchLabels": { "pod": "b" } } }] }] }"#,
        )],
        blocked: &[("x/c", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "several policies are unioned",
        policies: &[
            (
                "x",
                r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
                { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }], "ports": [{ "port": 80 }] }] }"#,
            ),
            (
                "x",
                r#"{ "podSelector": {}, "ingress": [
                { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "z" } } }], "ports": [{ "port": 81 }] }] }"#,
            ),
        ],
        blocked: &[("x/*", "x/*", BOTH), ("y/*", "x/a", &[81]), ("y/*", "x/b", BOTH), ("y/*", "x/c", BOTH), ("z/*", "x/*", &[80])],
    },
    Case {
        name: "a port by number",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "port": 81 }] }] }"#)],
        blocked: &[("*", "x/*", &[80])],
    },
    Case {
        name: "a port by name",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "port": "serve-81", "protocol": "TCP" }] }] }"#)],
        blocked: &[("*", "x/*", &[80])],
    },
    Case {
        name: "a port by a name that no pod has",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "port": "serve-82" }] }] }"#)],
        blocked: &[("*", "x/*", BOTH)],
    },
    Case {
        name: "a range of ports",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "port": 81, "endPort": 90 }] }] }"#)],
        blocked: &[("*", "x/*", &[80])],
    },
    Case {
        name: "ports of another protocol",
        policies: &[(
            "x",
            r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "protocol": "UDP", "port": 80 }, { "protocol": "SCTP" }] }] }"#,
        )],
        blocked: &[("*", "x/*", BOTH)],
    },
    Case {
        name: "peers on a port by name",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "z" } } }], "ports": [{ "port": "serve-80" }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/*", "x/a", BOTH), ("z/*", "x/a", &[81])],
    },
    Case {
        name: "egress to a namespace",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [
            { "to": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }] }"#,
        )],
        blocked: &[("x/a", "x/*", BOTH), ("x/a", "z/*", BOTH)],
    },
    Case {
        name: "egress to ports by name",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [
            { "ports": [{ "port": "serve-80" }] }] }"#,
        )],
        blocked: &[("x/a", "*", &[81])],
    },
    Case {
        name: "egress to pods on a port by name",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [
            { "to": [{ "podSelector": { "matchLabels": { "pod": "b" } } }], "ports": [{ "port": "serve-81" }] }] }"#,
        )],
        blocked: &[("x/a", "x/b", &[80]), ("x/a", "x/c", BOTH), ("x/a", "y/*", BOTH), ("x/a", "z/*", BOTH)],
    },
    Case {
        name: "egress to a range of ports",
        policies: &[("x", r#"{ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "ports": [{ "port": 1, "endPort": 80 }] }] }"#)],
        blocked: &[("x/*", "*", &[81])],
    },
    Case {
        name: "ingress and egress of one connection",
        policies: &[
            (
                "x",
                r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [
                { "to": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }] }"#,
            ),
            (
                "y",
                r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
                { "from": [{ "podSelector": {} }] }] }"#,
            ),
        ],
        blocked: &[("x/a", "x/*", BOTH), ("x/a", "z/*", BOTH), ("x/*", "y/a", BOTH), ("z/*", "y/a", BOTH)],
    },
    Case {
        name: "ipBlock with an exception",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [
            { "ipBlock": { "cidr": "10.244.2.0/24", "except": ["10.244.2.8/32"] } },
            { "ipBlock": { "cidr": "fd00:0:0:2::/64", "except": ["fd00:0:0:2::8/128"] } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/*", "x/a", BOTH), ("z/a", "x/a", BOTH)],
    },
    Case {
        name: "egress to an ipBlock with an exception",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [
            { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.244.1.0/24"] } },
            { "ipBlock": { "cidr": "::/0", "except": ["fd00:0:0:1::/64"] } }] }] }"#,
        )],
        blocked: &[("x/a", "x/*", BOTH), ("x/a", "y/*", BOTH)],
    },
    Case {
        name: "an exception of one block is in another",
        policies: &[(
            "x",
            r#"{ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "to": [
            { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"] } }, { "ipBlock": { "cidr": "10.244.1.5/32" } },
            { "ipBlock": { "cidr": "::/0", "except": ["fd00::/16"] } }, { "ipBlock": { "cidr": "fd00:0:0:1::5/128" } }] }] }"#,
        )],
        blocked: &[("x/*", "x/*", BOTH), ("x/*", "y/b", BOTH), ("x/*", "y/c", BOTH), ("x/*", "z/*", BOTH)],
    },
    Case {
        name: "one pod of a namespace that is denied",
        policies: &[
            ("x", DENY),
            (
                "x",
                r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
                { "from": [{ "podSelector": {}, "namespaceSelector": {} }] }] }"#,
            ),
        ],
        blocked: &[("*", "x/b", BOTH), ("*", "x/c", BOTH)],
    },
    Case {
        name: "pods of the own namespace",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }"#)],
        blocked: &[("y/*", "x/*", BOTH), ("z/*", "x/*", BOTH)],
    },
    Case {
        name: "pods by expressions",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [{ "podSelector": {
            "matchExpressions": [{ "key": "pod", "operator": "In", "values": ["b"] }] } }] }] }"#,
        )],
        blocked: &[("x/c", "x/a", BOTH), ("y/*", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "one or the other pod",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [
            { "podSelector": { "matchLabels": { "pod": "b" } } }, { "podSelector": { "matchLabels": { "pod": "c" } } }] }] }"#,
        )],
        blocked: &[("y/*", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "one pod of another namespace",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [{
            "namespaceSelector": { "matchLabels": { "ns": "y" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/b", "x/a", BOTH), ("y/c", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "a namespace by its name",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "y" } } }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "egress to all namespaces but one",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [{ "namespaceSelector": {
            "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["y"] }] } }] }] }"#,
        )],
        blocked: &[("x/a", "y/*", BOTH)],
    },
    Case {
        name: "a port for one namespace",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }], "ports": [{ "port": 81, "protocol": "TCP" }] }] }"#,
        )],
        blocked: &[("x/*", "x/a", BOTH), ("y/*", "x/a", &[80]), ("z/*", "x/a", BOTH)],
    },
    Case {
        name: "all ports beside one",
        policies: &[("x", r#"{ "podSelector": {}, "ingress": [{ "ports": [{ "port": 80 }] }] }"#), ("x", ALLOW)],
        blocked: &[],
    },
    Case {
        name: "egress to all ports beside one",
        policies: &[
            ("x", r#"{ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "ports": [{ "port": 80 }] }] }"#),
            ("x", r#"{ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] }"#),
        ],
        blocked: &[],
    },
    Case {
        name: "no egress of one pod",
        policies: &[("x", r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"] }"#)],
        blocked: &[("x/a", "*", BOTH)],
    },
    Case {
        name: "no egress of a namespace",
        policies: &[("x", r#"{ "podSelector": {}, "policyTypes": ["Egress"] }"#)],
        blocked: &[("x/*", "*", BOTH)],
    },
    Case {
        name: "egress and no ingress of one pod",
        policies: &[
            ("x", r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{}] }"#),
            ("x", r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Ingress"] }"#),
        ],
        blocked: &[("*", "x/a", BOTH)],
    },
    Case {
        name: "ingress and egress in one policy",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "pod": "b" } } }] }], "egress": [{ "ports": [{ "port": 80 }] }] }"#,
        )],
        blocked: &[("x/c", "x/a", BOTH), ("y/*", "x/a", BOTH), ("z/*", "x/a", BOTH), ("x/a", "*", &[81])],
    },
    Case {
        name: "egress to one pod of another namespace",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [{
            "namespaceSelector": { "matchLabels": { "ns": "y" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#,
        )],
        blocked: &[("x/a", "x/*", BOTH), ("x/a", "y/b", BOTH), ("x/a", "y/c", BOTH), ("x/a", "z/*", BOTH)],
    },
    Case {
        name: "egress that the other end would take",
        policies: &[
            (
                "x",
                r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [{
                "namespaceSelector": { "matchLabels": { "ns": "y" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#,
            ),
            (
                "y",
                r#"{ "podSelector": { "matchExpressions": [{ "key": "pod", "operator": "In", "values": ["a", "b"] }] }, "ingress": [{ "from": [{
                "namespaceSelector": { "matchLabels": { "ns": "x" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#,
            ),
        ],
        blocked: &[
            ("x/a", "x/*", BOTH),
            ("x/a", "y/c", BOTH),
            ("x/a", "z/*", BOTH),
            ("x/b", "y/a", BOTH),
            ("x/c", "y/a", BOTH),
            ("y/*", "y/a", BOTH),
            ("z/*", "y/a", BOTH),
            ("*", "y/b", BOTH),
        ],
    },
    Case {
        name: "egress to one address",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [
            { "ipBlock": { "cidr": "10.244.1.6/32" } }, { "ipBlock": { "cidr": "fd00:0:0:1::6/128" } }] }] }"#,
        )],
        blocked: &[("x/a", "x/*", BOTH), ("x/a", "y/a", BOTH), ("x/a", "y/c", BOTH), ("x/a", "z/*", BOTH)],
    },
    Case {
        name: "egress to all addresses but one",
        policies: &[(
            "x",
            r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Egress"], "egress": [{ "to": [
            { "ipBlock": { "cidr": "10.244.0.0/16", "except": ["10.244.1.3/32"] } },
            { "ipBlock": { "cidr": "fd00::/16", "except": ["fd00:0:0:1::3/128"] } }] }] }"#,
        )],
        blocked: &[("x/a", "x/b", BOTH)],
    },
];

#[test]
fn upstreams_cases() {
    let mut lab = Lab::new();
    for Case { name, policies, blocked } in CASES {
        let policies = policies.iter().zip(1..).map(|((namespace, spec), number)| policy(namespace, &format!("policy-{number}"), spec));
        assert!(lab.change(|world| world.policies = policies.collect()) > 0, "{name}");
        for ipv6 in [false, true] {
            let (reached, expected) = (lab.tcp(ipv6), all_but(blocked));
            let (too_many, too_few) =
                (reached.difference(&expected).collect::<Vec<_>>(), expected.difference(&reached).collect::<Vec<_>>());
            assert!(reached == expected, "{name}, IPv6 {ipv6}: let through {too_many:?}, kept {too_few:?}\n{}", lab.table());
        }
    }
    lab.change(|world| world.policies.clear());
    assert_eq!(lab.table(), "", "no policies, no table");
    assert_eq!(lab.tcp(false), all_but(&[]));
}

/// The table of upstream's cases in the document names cases of this file, and no case of this file is missing there.
#[test]
fn the_document_has_each_of_upstreams_cases() {
    const OTHERS: [&str; 2] = ["`changes_are_followed`", "`udp_and_sctp`"];
    let document = include_str!("../../../../../docs/network-policy.md");
    let (_, table) = document.split_once("| upstream's case | tried as | result |\n|---|---|---|\n").expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let tried: BTreeSet<&str> = rows.flat_map(|row| row.split('|').nth(2).expect("a second column").split(';')).map(str::trim).collect();
    let known: BTreeSet<&str> = CASES.iter().map(|case| case.name).chain(OTHERS).collect();
    assert_eq!(tried, known);
}

#[test]
fn udp_and_sctp() {
    let mut lab = Lab::new();
    assert_eq!(lab.udp(false), all_but(&[]));
    assert!(lab.sctp("y/a", "x/a", 80) && lab.sctp("z/a", "x/a", 81));
    lab.change(|world| world.policies = vec![policy("x", "deny", DENY)]);
    assert_eq!(lab.udp(false), all_but(&[("*", "x/*", BOTH)]));
    assert!(!lab.sctp("y/a", "x/a", 80) && !lab.sctp("x/b", "x/a", 80) && lab.sctp("x/a", "y/a", 80));
    let one_pod = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": [{
        "namespaceSelector": { "matchLabels": { "ns": "y" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#;
    lab.change(|world| world.policies = vec![policy("x", "one-pod", one_pod)]);
    assert_eq!(lab.udp(true), all_but(&[("x/*", "x/a", BOTH), ("y/b", "x/a", BOTH), ("y/c", "x/a", BOTH), ("z/*", "x/a", BOTH)]));
    assert!(lab.sctp("y/a", "x/a", 80) && !lab.sctp("y/b", "x/a", 80) && !lab.sctp("z/a", "x/a", 80));
    let tcp_alone = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "ports": [{ "protocol": "TCP" }] }] }"#;
    lab.change(|world| world.policies = vec![policy("x", "tcp", tcp_alone)]);
    assert_eq!((lab.tcp(false), lab.udp(false)), (all_but(&[]), all_but(&[("*", "x/a", BOTH)])));
    for (port, open, closed) in [(r#""serve-80-udp""#, 80, 81), ("81", 81, 80)] {
        let spec = format!(r#"{{ "podSelector": {{}}, "ingress": [{{ "ports": [{{ "protocol": "UDP", "port": {port} }}] }}] }}"#);
        lab.change(|world| world.policies = vec![policy("x", "udp", &spec)]);
        for ipv6 in [false, true] {
            assert_eq!(lab.udp(ipv6), all_but(&[("*", "x/*", if closed == 80 { &[80] } else { &[81] })]), "{port} {open}");
            assert_eq!(lab.tcp(ipv6), all_but(&[("*", "x/*", BOTH)]), "{port}");
        }
        assert!(!lab.sctp("y/a", "x/a", open) && !lab.sctp("y/a", "x/a", closed));
    }
    let spec = r#"{ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }],
        "ports": [{ "protocol": "SCTP", "port": 80 }] }] }"#;
    lab.change(|world| world.policies = vec![policy("x", "sctp", spec)]);
    assert_eq!(lab.udp(false), all_but(&[("*", "x/*", BOTH)]));
    for (from, port, passes) in [("y/a", 80, true), ("y/a", 81, false), ("x/b", 80, false), ("z/a", 80, false)] {
        assert_eq!(lab.sctp(from, "x/a", port), passes, "{from} {port}\n{}", lab.table());
    }
}

/// Labels of pods and namespaces, policies that come, change and go; each touches no more than it has to.
#[test]
fn changes_are_followed() {
    let mut lab = Lab::new();
    let from_y = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
        { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }] }"#;
    let from_z = from_y.replace("\"y\"", "\"z\"");
    let label = |world: &mut super::World, index: usize, key: &str, value: &str| {
        world.namespaces[index].metadata.labels.as_mut().unwrap().insert(key.to_owned(), value.to_owned());
    };
    lab.change(|world| world.policies = vec![policy("x", "one", from_y)]);
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH), ("z/*", "x/a", BOTH)]));
    lab.change(|world| world.policies = vec![policy("x", "one", &from_z)]);
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH), ("y/*", "x/a", BOTH)]), "a policy changes");
    lab.change(|world| label(world, 1, "ns", "z"));
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH)]), "a namespace's labels change");
    let pod_b = super::lab::PODS.iter().position(|(namespace, name, _)| (*namespace, *name) == ("x", "b")).unwrap();
    lab.change(|world| {
        world.pods[pod_b].metadata.labels.as_mut().unwrap().insert("pod".to_owned(), "a".to_owned());
    });
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH), ("x/*", "x/b", BOTH)]), "a pod's labels change");
    assert_eq!(lab.change(|_| ()), 0, "nothing is done where nothing changed");
    lab.change(|world| world.policies.push(policy("x", "two", ALLOW)));
    assert_eq!(lab.tcp(true), all_but(&[]), "another policy allows more");
    lab.change(|world| {
        world.policies.pop();
    });
    assert_eq!(lab.tcp(true), all_but(&[("x/*", "x/a", BOTH), ("x/*", "x/b", BOTH)]), "and goes");

    // A pod that came just now, of whose address the API server does not know yet: nobody knows what it may do.
    let mut status = None;
    lab.change(|world| status = world.pods[pod_b].status.take());
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH), ("*", "x/b", BOTH), ("x/b", "*", BOTH)]));
    // The machine's own runtime does.
    let addresses = status.unwrap().pod_ips.unwrap().into_iter().map(|address| address.ip.parse().unwrap()).collect();
    lab.view.update(|cluster, words, _| cluster.locate([((words.get("x"), words.get("b")), addresses)].into()));
    lab.settle();
    assert_eq!(lab.tcp(false), all_but(&[("x/*", "x/a", BOTH), ("x/*", "x/b", BOTH)]));
}

/// Whatever policies there are, datagrams get where the API's words say. Those between two pods of the other machine do not come by here.
#[test]
fn packets_go_as_the_words_of_the_api_say() {
    let mut lab = Lab::new();
    let mut runner = TestRunner::deterministic();
    let mut stopped = 0;
    for round in 0..20 {
        let random = world::any().new_tree(&mut runner).unwrap().current();
        lab.change(|world| {
            let namespaces = BTreeMap::from([("one", "x"), ("two", "y"), ("three", "z")]);
            world.policies = random.policies;
            for policy in &mut world.policies {
                policy.metadata.namespace = policy.metadata.namespace.take().map(|name| namespaces[name.as_str()].to_owned());
            }
            for (namespace, other) in world.namespaces.iter_mut().zip(&random.namespaces) {
                namespace.metadata.labels.clone_from(&other.metadata.labels);
            }
            for (pod, other) in world.pods.iter_mut().zip(random.pods.iter().cycle()) {
                pod.metadata.labels.clone_from(&other.metadata.labels);
                let ports = json!([{ "name": "dns", "containerPort": 80, "protocol": "UDP" }, { "name": "web", "containerPort": 80 }]);
                pod.spec.as_mut().unwrap().containers[0].ports = Some(serde_json::from_value(ports).unwrap());
            }
        });
        for ipv6 in [false, true] {
            let mut expected = Reached::new();
            let names: Vec<String> = PODS.iter().map(|(namespace, name, _)| format!("{namespace}/{name}")).collect();
            for (from, to, port) in names.iter().flat_map(|from| names.iter().flat_map(move |to| PORTS.map(|port| (from, to, port)))) {
                let flow = Flow { from: lab.address(from, ipv6), to: lab.address(to, ipv6), protocol: 17, port };
                let passes_by = from.starts_with('z') && to.starts_with('z');
                if passes_by || reference::allows(&lab.world, &own(), flow) {
                    expected.insert((from.clone(), to.clone(), port));
                } else {
                    stopped += 1;
                }
            }
            assert_eq!(lab.udp(ipv6), expected, "round {round}, IPv6 {ipv6}: {}\n{}", lab.world, lab.table());
        }
    }
    assert!(stopped > 500, "{stopped}");
}
