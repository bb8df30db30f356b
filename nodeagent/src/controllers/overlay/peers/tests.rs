use super::*;

const CLUSTER: &str = "10.244.0.0/16";

fn end(address: &str, last: u8) -> TunnelEnd {
    let tunnel = VxlanEnd { hardware_address: HardwareAddress([2, 0, 0, 0, 0, last]), vni: VNI };
    TunnelEnd { address: address.parse().unwrap(), tunnel: Some(Tunnel::Vxlan(tunnel)) }
}

/// A Node that tells what it should.
fn node(number: u8) -> ClusterNode {
    let address = format!("192.0.2.{number}");
    ClusterNode {
        labels: BTreeMap::new(),
        created_at: format!("2026-11-25T09:00:{number:02}Z"),
        ready: true,
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
        addresses: vec![address.parse().unwrap()],
        announcement: Some(Announcement { backend: VXLAN.to_owned(), ends: vec![end(&address, number)] }),
        cpu_millis: 2000,
        problem: String::new(),
        ..ClusterNode::default()
    }
}

fn with_wireguard(number: u8) -> ClusterNode {
    let mut node = node(number);
    let announced = node.announcement.as_mut().unwrap();
    announced.backend = WIREGUARD.to_owned();
    announced.ends[0].tunnel = Some(Tunnel::Wireguard(WireguardEnd { public_key: PublicKey([number; 32]), port: Some(51820) }));
    node
}

/// With a tunnel for those who are on no link of its own, or without.
fn as_host_gateway(number: u8, tunnel: bool) -> ClusterNode {
    let mut node = node(number);
    let announced = node.announcement.as_mut().unwrap();
    announced.backend = HOST_GATEWAY.to_owned();
    if !tunnel {
        announced.ends[0].tunnel = None;
    }
    node
}

/// As node-1 judges them.
fn judged(nodes: &[(&str, ClusterNode)]) -> BTreeMap<String, Peer> {
    judged_by(OverlayBackend::Vxlan, nodes)
}

fn judged_by(backend: OverlayBackend, nodes: &[(&str, ClusterNode)]) -> BTreeMap<String, Peer> {
    let nodes: BTreeMap<String, ClusterNode> = nodes.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect();
    let own = Own {
        name: "node-1",
        backend,
        families: BTreeMap::from([(false, 8472)]),
        links: vec![Underlay { link: 2, mtu: 1500, network: "192.0.2.0/24".parse().unwrap() }],
        pod_cidrs: &["10.244.1.0/24".parse().unwrap()],
        addresses: vec!["192.0.2.1".parse().unwrap()],
        hardware_addresses: vec![HardwareAddress([2, 0, 0, 0, 0, 1])],
        public_keys: vec![PublicKey([1; 32])],
        cluster_pod_cidrs: &[CLUSTER.parse().unwrap(), "fd00::/48".parse().unwrap()],
        cluster_service_cidrs: &["10.96.0.0/16".parse().unwrap()],
    };
    judge(&own, &nodes)
}

/// What a hostile Node claims, and what is said to it. A younger honest one, and an older one, go on.
#[test]
fn hostile_nodes_are_refused_and_others_go_on() {
    let claim = |change: &dyn Fn(&mut ClusterNode)| {
        let mut hostile = node(5);
        change(&mut hostile);
        hostile
    };
    let announce = |change: &dyn Fn(&mut TunnelEnd)| claim(&|node| change(&mut node.announcement.as_mut().unwrap().ends[0]));
    let vxlan = |change: &dyn Fn(&mut VxlanEnd)| {
        announce(&|end| {
            if let Some(Tunnel::Vxlan(vxlan)) = &mut end.tunnel {
                change(vxlan);
            }
        })
    };
    let pods = |cidr: &str| claim(&|node| node.pod_cidrs = vec![cidr.parse().unwrap()]);
    let address = |address: &str| announce(&|end| end.address = address.parse().unwrap());
    let cases = [
        ("problem", claim(&|node| node.problem = "annotation x: too long".to_owned())),
        ("backend", claim(&|node| node.announcement.as_mut().unwrap().backend = "wireguard".to_owned())),
        ("a backend of any length", claim(&|node| node.announcement.as_mut().unwrap().backend = "x".repeat(1000))),
        ("direct routes alone", as_host_gateway(5, false)),
        ("a tunnel of another kind", claim(&|node| node.announcement = with_wireguard(5).announcement)),
        ("another VNI", vxlan(&|end| end.vni = 2)),
        ("nobody's hardware address", vxlan(&|end| end.hardware_address = HardwareAddress([0; 6]))),
        ("a group's hardware address", vxlan(&|end| end.hardware_address = HardwareAddress([0xff; 6]))),
        ("this machine's hardware address", vxlan(&|end| end.hardware_address = HardwareAddress([2, 0, 0, 0, 0, 1]))),
        ("an older Node's hardware address", vxlan(&|end| end.hardware_address = HardwareAddress([2, 0, 0, 0, 0, 2]))),
        ("this machine's address", address("192.0.2.1")),
        ("an older Node's address", address("192.0.2.2")),
        ("a younger Node's address", address("192.0.2.8")),
        ("loopback", address("127.0.0.1")),
        ("all", address("255.255.255.255")),
        ("all on this machine's link", address("192.0.2.255")),
        ("all on this machine's link, as it was once written", address("192.0.2.0")),
        ("a group", address("224.0.0.1")),
        ("link-local", address("169.254.169.254")),
        ("a pod's address", address("10.244.2.7")),
        ("a Service's address", address("10.96.0.1")),
        ("this machine's pods", pods("10.244.1.0/25")),
        ("an older Node's pods", pods("10.244.2.128/25")),
        ("all pods", pods(CLUSTER)),
        ("everything", pods("0.0.0.0/0")),
        ("one address of an older Node's pods", pods("10.244.2.255/32")),
        ("Services", pods("10.96.0.0/16")),
        ("no network's first address", pods("10.244.5.1/24")),
        ("two networks", claim(&|node| node.pod_cidrs.push("10.244.6.0/24".parse().unwrap()))),
    ];
    let mut text = String::new();
    for (what, hostile) in cases {
        let peers = judged(&[("node-1", node(1)), ("node-2", node(2)), ("hostile", hostile), ("node-8", node(8))]);
        assert_eq!(peers.len(), 3);
        for honest in ["node-2", "node-8"] {
            assert_eq!(
                (peers[honest].told.state, peers[honest].paths.len()),
                (PeerState::Connected, 1),
                "{what}: {honest} {:?}",
                peers[honest]
            );
        }
        let refused = &peers["hostile"];
        assert_eq!((refused.told.state, refused.paths.len()), (PeerState::Refused, 0), "{what}");
        text += &format!("{what}: {}\n", refused.told.message);
    }
    crate::golden::check("src/controllers/overlay/golden/refused.txt", &text);
}

/// A Node with the address of a machine that is gone: its successor under another name is reached.
#[test]
fn a_successor_with_the_same_address_is_reached_once_the_old_node_is_not_ready() {
    let mut successor = node(8);
    successor.addresses = node(2).addresses;
    successor.announcement.as_mut().unwrap().ends[0].address = successor.addresses[0];
    let mut gone = node(2);
    let peers = judged(&[("node-2", gone.clone()), ("node-8", successor.clone())]);
    assert_eq!(peers["node-2"].told.state, PeerState::Connected);
    assert_eq!(peers["node-8"].told.message, "address 192.0.2.2, which is that of Node node-2; if that machine is gone, delete its Node");
    gone.ready = false;
    let peers = judged(&[("node-2", gone), ("node-8", successor)]);
    assert_eq!((peers["node-2"].told.state, peers["node-8"].told.state), (PeerState::Refused, PeerState::Connected));
}

#[test]
fn what_is_missing_is_waited_for() {
    let silent = ClusterNode { announcement: None, ..node(2) };
    let without_pods = ClusterNode { pod_cidrs: Vec::new(), ..node(3) };
    let mut both = node(4);
    both.pod_cidrs.push("fd00:0:0:4::/64".parse().unwrap());
    let mut other_family = node(5);
    other_family.pod_cidrs = vec!["fd00:0:0:5::/64".parse().unwrap()];
    let peers = judged(&[("node-2", silent), ("node-3", without_pods), ("node-4", both), ("node-5", other_family)]);
    let told: Vec<(PeerState, &str)> = peers.values().map(|peer| (peer.told.state, peer.told.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (PeerState::Waiting, "it tells of no overlay yet"),
            (PeerState::Waiting, "it has no pod networks yet (spec.podCIDRs)"),
            (PeerState::Connected, "this machine carries no IPv6"),
            (PeerState::Waiting, "this machine carries no IPv6"),
        ]
    );
}

/// What can be claimed of keys. Nothing that a Node tells makes a machine with WireGuard send in the clear.
#[test]
fn hostile_nodes_with_keys_are_refused_and_others_go_on() {
    let claim = |change: &dyn Fn(&mut WireguardEnd)| {
        let mut hostile = with_wireguard(5);
        let end = &mut hostile.announcement.as_mut().unwrap().ends[0];
        if let Some(Tunnel::Wireguard(wireguard)) = &mut end.tunnel {
            change(wireguard);
        }
        hostile
    };
    let mut one = [0; 32];
    one[0] = 1;
    let mut plain = with_wireguard(5);
    plain.announcement.as_mut().unwrap().ends[0].tunnel = None;
    let cases = [
        ("this machine's key", claim(&|end| end.public_key = PublicKey([1; 32]))),
        ("an older Node's key", claim(&|end| end.public_key = PublicKey([2; 32]))),
        ("nobody's key", claim(&|end| end.public_key = PublicKey([0; 32]))),
        ("nobody's key, either", claim(&|end| end.public_key = PublicKey(one))),
        ("no port", claim(&|end| end.port = Some(0))),
        ("no tunnel", plain),
        ("VXLAN", node(5)),
        ("direct routes", as_host_gateway(5, true)),
    ];
    let mut text = String::new();
    for (what, hostile) in cases {
        let nodes = [("node-1", with_wireguard(1)), ("node-2", with_wireguard(2)), ("hostile", hostile), ("node-8", with_wireguard(8))];
        let peers = judged_by(OverlayBackend::Wireguard, &nodes);
        for (honest, number) in [("node-2", 2), ("node-8", 8)] {
            let by = By::Wireguard { public_key: PublicKey([number; 32]), port: 51820 };
            assert_eq!(peers[honest].paths.first().map(|path| path.by), Some(by), "{what}: {:?}", peers[honest]);
        }
        let refused = &peers["hostile"];
        assert_eq!((refused.told.state, refused.paths.len()), (PeerState::Refused, 0), "{what}");
        text += &format!("{what}: {}\n", refused.told.message);
    }
    crate::golden::check("src/controllers/overlay/golden/refused_keys.txt", &text);
}

#[test]
fn machines_on_one_link_need_no_tunnel() {
    let mut elsewhere = as_host_gateway(6, true);
    elsewhere.addresses = vec!["198.51.100.6".parse().unwrap()];
    elsewhere.announcement.as_mut().unwrap().ends[0].address = elsewhere.addresses[0];
    let mut lost = as_host_gateway(7, false);
    lost.addresses = vec!["198.51.100.7".parse().unwrap()];
    lost.announcement.as_mut().unwrap().ends[0].address = lost.addresses[0];
    let nodes = [
        ("flannel", as_host_gateway(2, false)),
        ("corten", as_host_gateway(3, true)),
        ("vxlan", node(4)),
        ("wireguard", with_wireguard(5)),
        ("elsewhere", elsewhere),
        ("lost", lost),
    ];
    let by = |peers: &BTreeMap<String, Peer>| -> BTreeMap<String, String> {
        let words = |peer: &Peer| if peer.paths.is_empty() { peer.told.message.clone() } else { peer.told.by.clone() };
        peers.iter().map(|(name, peer)| (name.clone(), words(peer))).collect()
    };
    let expected = |pairs: [(&str, &str); 6]| pairs.into_iter().map(|(name, by)| (name.to_owned(), by.to_owned())).collect();
    assert_eq!(
        by(&judged_by(OverlayBackend::HostGateway, &nodes)),
        expected([
            ("flannel", "direct"),
            ("corten", "direct"),
            ("vxlan", "vxlan"),
            ("wireguard", "backend \"wireguard\"; this machine speaks host-gw"),
            ("elsewhere", "vxlan"),
            ("lost", "address 198.51.100.7, which is on no link of this machine's, and it tells of no tunnel"),
        ])
    );
    // Both ends find the same: one that speaks VXLAN gets it from those who could do without.
    assert_eq!(
        by(&judged_by(OverlayBackend::Vxlan, &nodes)),
        expected([
            ("flannel", "backend \"host-gw\"; this machine speaks vxlan"),
            ("corten", "vxlan"),
            ("vxlan", "vxlan"),
            ("wireguard", "backend \"wireguard\"; this machine speaks vxlan"),
            ("elsewhere", "vxlan"),
            ("lost", "backend \"host-gw\"; this machine speaks vxlan"),
        ])
    );
}
