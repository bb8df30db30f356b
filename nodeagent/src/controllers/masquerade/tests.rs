use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ::machine::Root;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use serde_json::json;

use super::*;
use crate::controllers::fixtures::machine;
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::node::Applied;

/// Whom a listener at the address sees when a pod connects to it.
fn seen_as(pod: &Namespace, listener: &Namespace, address: &str) -> IpAddr {
    let address: IpAddr = address.parse().unwrap();
    let listener = listener.enter(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let to = listener.local_addr().unwrap();
    let _connection = pod.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
    listener.accept().unwrap().1.ip()
}

/// A pod, its machine, and a host beyond that is both a pod's machine and the world outside. Needs root, nft and iproute2.
#[tokio::test]
async fn pods_keep_their_address_among_pods_only() {
    let (pod, machine_, beyond) = (Namespace::new(), Namespace::new(), Namespace::new());
    machine_.run(&format!("ip link add pod0 type veth peer name eth0 netns {}", pod.pid()));
    machine_.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", beyond.pid()));
    for (namespace, link, addresses) in [
        (&pod, "eth0", ["10.244.1.2/24", "fd00:0:0:1::2/64"].as_slice()),
        (&machine_, "pod0", &["10.244.1.1/24", "fd00:0:0:1::1/64"]),
        (&machine_, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&beyond, "eth0", &["192.0.2.2/24", "2001:db8::2/64", "10.244.2.2/24", "fd00:0:0:2::2/64"]),
    ] {
        namespace.run(&format!("ip link set {link} up"));
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            namespace.run(&format!("ip address add {address} dev {link}{nodad}"));
        }
    }
    machine_.run("sysctl -q -w net.ipv4.ip_forward=1");
    machine_.run("sysctl -q -w net.ipv6.conf.all.forwarding=1");
    pod.run("ip route add default via 10.244.1.1");
    pod.run("ip -6 route add default via fd00:0:0:1::1");
    for route in ["10.244.2.0/24 via 192.0.2.2", "fd00:0:0:2::/64 via 2001:db8::2"] {
        machine_.run(&format!("ip route add {route}"));
    }
    beyond.run("ip route add 10.244.1.0/24 via 192.0.2.1");
    beyond.run("ip route add fd00:0:0:1::/64 via 2001:db8::1");

    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    machine_.install(&root.path("/usr/sbin/nft"));
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let mut config = (*machine("worker").config).clone();
    config.cluster.network.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()];
    node.set_config(Applied { generation: 1, config: Arc::new(config) });
    let mut masquerade = Masquerade::default();
    let seen = masquerade.observe(&node).await.unwrap();
    assert!(matches!(masquerade.plan(&seen), Plan::Waiting(_)));

    let described: KubernetesNode = serde_json::from_value(json!({
        "metadata": { "name": "cp-1" }, "spec": { "podCIDRs": ["10.244.1.0/24", "fd00:0:0:1::/64"] }
    }))
    .unwrap();
    node.store.put("cp-1", &crate::controllers::cluster_node::describe(&described));
    let settle = async |masquerade: &mut Masquerade| {
        let seen = masquerade.observe(&node).await.unwrap();
        let Plan::Act(actions) = masquerade.plan(&seen) else { return false };
        for rules in actions {
            masquerade.apply(rules, &node).await.unwrap();
        }
        let seen = masquerade.observe(&node).await.unwrap();
        assert_eq!(masquerade.plan(&seen), Plan::Settled);
        true
    };
    assert_eq!(seen_as(&pod, &beyond, "192.0.2.2").to_string(), "10.244.1.2", "without the table");
    assert!(settle(&mut masquerade).await);
    for (address, from) in
        [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1"), ("10.244.2.2", "10.244.1.2"), ("fd00:0:0:2::2", "fd00:0:0:1::2")]
    {
        assert_eq!(seen_as(&pod, &beyond, address).to_string(), from, "{address}");
    }
    // An agent that starts again, and somebody who takes the table away.
    assert!(settle(&mut Masquerade::default()).await);
    machine_.run("nft delete table inet corten-masquerade");
    assert!(settle(&mut masquerade).await);
    assert_eq!(seen_as(&pod, &beyond, "192.0.2.2").to_string(), "192.0.2.1");
}
