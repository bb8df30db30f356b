//! Connections that go on while policies change, and what policies never stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV6, TcpListener, TcpStream};

use super::lab::Lab;
use super::world::policy;
use super::*;
use crate::controllers::namespace::Namespace;

/// A connection and its two ends.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn between(lab: &Lab, from: &Namespace, to: &str, ipv6: bool) -> Talk {
        let address = SocketAddr::new(lab.address(to, ipv6), 80);
        let client = from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap());
        let server = lab.accept(to, address);
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        }
        Talk { client, server }
    }

    /// Whether a word gets from either end to the other.
    fn goes_on(&mut self) -> bool {
        let hears = |from: &mut TcpStream, to: &mut TcpStream| {
            let mut heard = [0; 2];
            from.write_all(b"hi").is_ok() && to.read_exact(&mut heard).is_ok()
        };
        hears(&mut self.server, &mut self.client) && hears(&mut self.client, &mut self.server)
    }
}

const DENY_ALL: &str = r#"{ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }"#;

#[test]
fn connections_that_are_forbidden_end_and_others_go_on() {
    for ipv6 in [false, true] {
        let mut lab = Lab::new();
        let talk = |lab: &Lab, from: &str, to: &str| Talk::between(lab, lab.namespace(from), to, ipv6);
        let (mut from_y, mut from_b) = (talk(&lab, "y/a", "x/a"), talk(&lab, "x/b", "x/a"));
        let mut elsewhere = talk(&lab, "y/b", "y/c");
        let allow_b = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
            { "from": [{ "podSelector": { "matchLabels": { "pod": "b" } } }] }] }"#;
        lab.change(|world| world.policies = vec![policy("x", "one", allow_b)]);
        assert!(!from_y.goes_on(), "it began before the policy, which forbids it\n{}", lab.table());
        assert!(from_b.goes_on() && elsewhere.goes_on());
        // Whichever end speaks first, also where nothing is said against what the server sends.
        assert!(from_y.client.write_all(b"hi").is_err() || !from_y.goes_on());

        let x_b = lab.world.pods.iter().position(|pod| pod.metadata.name.as_deref() == Some("b")).unwrap();
        lab.change(|world| world.pods[x_b].metadata.labels = None);
        assert!(!from_b.goes_on(), "the client's label was what allowed it");
        assert!(elsewhere.goes_on());

        let mut out = talk(&lab, "x/c", "y/a");
        lab.change(|world| world.policies.push(policy("x", "two", r#"{ "podSelector": {}, "policyTypes": ["Egress"] }"#)));
        assert!(!out.goes_on(), "of who began it");
        lab.change(|world| world.policies.clear());
        assert!(talk(&lab, "y/a", "x/a").goes_on(), "and new ones begin once they may");
        assert!(elsewhere.goes_on());
    }
}

#[test]
fn the_machine_reaches_its_pods_and_they_it() {
    for ipv6 in [false, true] {
        let mut lab = Lab::new();
        let address = SocketAddr::new(lab.address("x/a", ipv6), 80);
        let mut before = Talk::between(&lab, &lab.node, "x/a", ipv6);
        lab.change(|world| world.policies = vec![policy("x", "deny", DENY_ALL)]);
        // As the kubelet probes.
        assert!(Talk::between(&lab, &lab.node, "x/a", ipv6).goes_on() && before.goes_on());
        let own: SocketAddr = if ipv6 { "[fd00:0:0:1::1]:0" } else { "10.244.1.1:0" }.parse().unwrap();
        let listener = lab.node.enter(|| TcpListener::bind(own).unwrap());
        let to = listener.local_addr().unwrap();
        assert!(lab.namespace("x/a").enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).is_ok());
        let from_y = lab.namespace("y/a").enter(|| TcpStream::connect_timeout(&address, Duration::from_millis(300)));
        assert!(from_y.is_err());
    }
}

/// Neighbours have addresses that no policy speaks of.
#[test]
fn link_local_addresses_are_no_way_around() {
    let mut lab = Lab::new();
    let shown = lab.namespace("x/a").text(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]);
    let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned();
    let address: std::net::Ipv6Addr = address.parse().unwrap();
    let at = |namespace: &Namespace| namespace.enter(|| SocketAddrV6::new(address, 82, 0, nix::net::if_::if_nametoindex("eth0").unwrap()));
    let there = at(lab.namespace("x/a"));
    // A link has its address a moment after it is up, once nobody on the link has claimed it.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let _listener = lab.namespace("x/a").enter(|| {
        loop {
            match TcpListener::bind(there) {
                Ok(listener) => return listener,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        }
    });
    let from = at(lab.namespace("x/b"));
    let connects = |lab: &Lab| {
        let connect = || TcpStream::connect_timeout(&from.into(), Duration::from_millis(500)).is_ok();
        lab.namespace("x/b").enter(connect)
    };
    assert!(connects(&lab), "without the table there is a way");
    lab.change(|world| world.policies = vec![policy("x", "deny", DENY_ALL)]);
    assert!(!connects(&lab));
}

/// An agent that is killed leaves all as it is; the next one takes over without a moment that allows more, or less.
#[test]
fn an_agent_that_starts_anew_breaks_nothing() {
    let mut lab = Lab::new();
    let from_y = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
        { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }] }"#;
    lab.change(|world| world.policies = vec![policy("x", "one", from_y)]);
    let mut talk = Talk::between(&lab, lab.namespace("y/a"), "x/a", false);
    let table = kernel::listed(&lab.node);
    lab.policies = Policies::new(lab.view.clone());
    lab.view.update(|known, _, listed| {
        *known = Cluster::default();
        *listed = view::Listed::default();
        true
    });
    assert!(lab.waits(), "it has not heard of anything yet");
    assert_eq!(kernel::listed(&lab.node), table);
    lab.hear();
    assert!(lab.settle() > 0);
    assert_eq!(kernel::listed(&lab.node), table);
    assert!(talk.goes_on());

    // And somebody who touches the table.
    lab.node.run("nft flush chain inet corten-policy forward");
    lab.policies.looked_at_kernel = None;
    assert!(lab.settle() > 0);
    assert_eq!(kernel::listed(&lab.node), table);
    assert!(talk.goes_on());
}

/// Pods and policies come and go, and the agent dies again and again: what nobody touches goes on, and nothing old is left.
#[test]
fn churn_with_agents_that_die() {
    let mut lab = Lab::new();
    let kept = r#"{ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [
        { "from": [{ "namespaceSelector": { "matchLabels": { "kind": "kept" } }, "podSelector": { "matchLabels": { "pod": "a" } } }] }] }"#;
    lab.world.namespaces[1] = super::world::namespace("y", serde_json::json!({ "ns": "y", "kind": "kept" }));
    lab.change(|world| world.policies = vec![policy("x", "kept", kept)]);
    let mut talk = Talk::between(&lab, lab.namespace("y/a"), "x/a", false);
    let spare = lab.world.pods.clone();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for round in 0..25 {
        let random = proptest::strategy::ValueTree::current(&super::world::any().new_tree(&mut runner).unwrap());
        lab.change(|world| {
            world.policies.truncate(1);
            world.policies.extend(random.policies.into_iter().zip(0..).map(|(mut policy, number)| {
                policy.metadata.namespace = Some(["x", "y", "z"][number % 3].to_owned());
                policy
            }));
            // Policies of egress would be about the one end that is to go on.
            world.policies[1..].iter_mut().for_each(|policy| policy.spec.as_mut().unwrap().policy_types = Some(vec!["Ingress".to_owned()]));
            world.pods.clone_from(&spare);
            world.pods.retain(|pod| {
                pod.metadata.name.as_deref() == Some("a")
                    || (round + pod.status.as_ref().unwrap().pod_ips.as_ref().unwrap()[0].ip.len()) % 3 > 0
            });
        });
        assert!(talk.goes_on(), "round {round}: {}\n{}", lab.world, lab.table());
        assert!(Talk::between(&lab, lab.namespace("y/a"), "x/a", round % 2 == 0).goes_on(), "round {round}");
        if round % 3 == 0 {
            lab.policies = Policies::new(lab.view.clone());
            lab.settle();
            assert!(talk.goes_on(), "round {round}");
        }
    }
    let compiled = compile(&lab.world.cluster(), &own());
    let anew = Namespace::new();
    assert_eq!(kernel::listed(&lab.node), kernel::load(&anew, &render::whole(&compiled.table)).unwrap());
}
