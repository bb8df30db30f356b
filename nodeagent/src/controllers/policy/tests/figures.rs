//! What policies cost: `cargo test -p nodeagent --release policy::tests::figures -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::json;

use super::world::{World, namespace, policy};
use super::*;
use crate::controllers::namespace::Namespace;

const POLICIES: usize = 1000;
const PODS_OF_THE_CLUSTER: usize = 5000;
const NAMESPACES: usize = 50;
/// Of a node; the kubelet's default is 110.
const PODS_HERE: usize = 110;

/// Pods of ten applications in each namespace, and twenty policies of each, half of them with peers of another namespace.
fn large() -> World {
    let name = |number: usize| format!("team-{number}");
    let namespaces =
        (0..NAMESPACES).map(|number| namespace(&name(number), json!({ "team": name(number), "kind": format!("{}", number % 5) })));
    let pods = (0..PODS_OF_THE_CLUSTER).map(|number| {
        let (third, fourth, node) = match number < PODS_HERE {
            true => (1, 2 + number, "here"),
            false => (2 + number / 200, 2 + number % 200, "there"),
        };
        let labels = json!({ "app": format!("app-{}", number / NAMESPACES % 10), "pod-template-hash": "5d78c9869d", "tier": format!("{}", number % 3) });
        serde_json::from_value(json!({
            "metadata": { "namespace": name(number % NAMESPACES), "name": format!("app-{number}-5d78c9869d-x2x7z"), "labels": labels },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
            "status": { "podIPs": [{ "ip": format!("10.244.{third}.{fourth}") }] },
        }))
        .unwrap()
    });
    let policies = (0..POLICIES).map(|number| {
        let from = match number % 2 {
            0 => json!({ "podSelector": { "matchLabels": { "app": format!("app-{}", (number / NAMESPACES + 1) % 10) } } }),
            _ => json!({ "namespaceSelector": { "matchLabels": { "kind": format!("{}", number % 5) } } }),
        };
        let spec = json!({
            "podSelector": { "matchLabels": { "app": format!("app-{}", number / NAMESPACES % 10) } },
            "ingress": [{ "from": [from, { "ipBlock": { "cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"] } }],
                "ports": [{ "port": "http" }, { "port": 9000, "endPort": 9010 }] }],
        });
        policy(&name(number % NAMESPACES), &format!("policy-{number}"), &spec.to_string())
    });
    World { namespaces: namespaces.collect(), pods: pods.collect(), policies: policies.collect() }
}

/// The same as rules alone, as a compiler without sets writes them: one for each pod here, each peer and each port.
fn plain(table: &table::Table) -> (usize, String) {
    let mut text = String::from(
        "table ip plain {\n\tchain forward {\n\t\ttype filter hook forward priority filter;\n\t\tct state established,related accept\n",
    );
    let mut rules = 0;
    for (pod, chain) in &table.ingress {
        for one in &table.chains[chain] {
            let peers: Vec<String> = match one.peers.as_ref().map(|set| &table.sets[set].elements) {
                Some(table::Elements::Addresses(addresses)) => addresses.iter().map(ToString::to_string).collect(),
                Some(table::Elements::Networks(networks)) => networks.iter().map(ToString::to_string).collect(),
                _ => vec!["0.0.0.0/0".to_owned()],
            };
            let ports = match &one.ports {
                table::Ports::Ranges(_, ranges) => ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect::<Vec<_>>(),
                _ => vec!["8080".to_owned()],
            };
            for (peer, port) in peers.iter().flat_map(|peer| ports.iter().map(move |port| (peer, port))) {
                let _ = writeln!(text, "\t\tip daddr {pod} ip saddr {peer} tcp dport {port} accept");
                rules += 1;
            }
        }
        let _ = writeln!(text, "\t\tip daddr {pod} drop");
    }
    text.push_str("\t}\n}\n");
    (rules, text)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    let namespace = Namespace::new();
    let load = |what: &str, commands: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), commands).unwrap();
        let begun = Instant::now();
        assert!(namespace.command("nft").arg("-f").arg(file.path()).status().unwrap().success());
        println!("{what}: {} bytes, nft takes {:?}", commands.len(), begun.elapsed());
    };
    let mut world = large();
    let mut clusters = Vec::new();
    let before = resident_kib();
    for _ in 0..8 {
        clusters.push(world.cluster());
    }
    println!("a cluster of {PODS_OF_THE_CLUSTER} pods and {POLICIES} policies: {} KiB", (resident_kib() - before) / 8);
    let cluster = clusters.pop().unwrap();
    drop(clusters);
    let begun = Instant::now();
    let compiled = compile(&cluster, &own());
    let (chains, sets) = (compiled.table.chains.len(), compiled.table.sets.len());
    println!("compiling: {:?}; {} pods isolated, {chains} chains, {sets} sets", begun.elapsed(), compiled.table.isolated().len());
    let before = resident_kib();
    let tables: Vec<Compiled> = (0..8).map(|_| compile(&cluster, &own())).collect();
    println!("what is compiled of it: {} KiB", (resident_kib() - before) / 8);
    drop(tables);
    load("the whole table", &render::whole(&compiled.table));
    let (rules, text) = plain(&compiled.table);
    load(&format!("the same as {rules} plain rules"), &text);

    let step = |what: &str, before: &Compiled, world: &World| {
        let cluster = world.cluster();
        let begun = Instant::now();
        let after = compile(&cluster, &own());
        let commands = render::change(&before.table, &after.table).unwrap();
        println!("{what}: {:?} to compile and compare", begun.elapsed());
        load(what, &commands);
        after
    };
    world.pods.push(super::world::pod("team-1", "new", json!({ "app": "app-1" }), "there", 250, 8080));
    let compiled = step("a pod comes elsewhere", &compiled, &world);
    world.policies[1].spec.as_mut().unwrap().ingress.as_mut().unwrap()[0].ports = None;
    let compiled = step("a policy changes", &compiled, &world);
    world.pods.remove(0);
    step("a pod goes here", &compiled, &world);
}
