//! Connections that go on while policies change, and what policies never stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

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
        let listener = lab.node.enter(|| std::net::TcpListener::bind(own).unwrap());
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
    lab.namespace("x/a").run("ip -6 neigh flush all");
    let script = format!(
        "import socket\nsocket.create_server(('{address}%eth0', 82), family=socket.AF_INET6)\nprint('ready', flush=True)\nimport time\ntime.sleep(60)"
    );
    let mut server = lab.namespace("x/a").command("python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    server.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let connects = |lab: &Lab| {
        let script = format!("import socket; socket.create_connection(('{address}%eth0', 82), timeout=0.5).close()");
        lab.namespace("x/b").command("python3").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(connects(&lab), "without the table there is a way");
    lab.change(|world| world.policies = vec![policy("x", "deny", DENY_ALL)]);
    assert!(!connects(&lab));
    server.kill().unwrap();
    server.wait().unwrap();
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
