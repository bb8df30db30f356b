use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::flannel::{HOST_GATEWAY, VXLAN, WIREGUARD};
use super::super::state::{Entry, Verb};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::resources::overlay::Announcement;

const OWN: &str = "node-001";

/// A Node with everything that it should have, in both families.
fn node(number: u16) -> ClusterNode {
    let [high, low] = number.to_be_bytes();
    let ends = [format!("192.0.{}.{low}", 2 + high), format!("2001:db8::{number:x}")];
    let hardware = |family| HardwareAddress([2, family, 0, 0, high, low]);
    let end = |(family, address): (u8, &String)| {
        let tunnel = Tunnel::Vxlan(VxlanEnd { hardware_address: hardware(family), vni: VNI });
        TunnelEnd { address: address.parse().unwrap(), tunnel: Some(tunnel) }
    };
    ClusterNode {
        labels: BTreeMap::new(),
        created_at: format!("2026-11-25T09:00:00Z {number:05}"),
        ready: true,
        pod_cidrs: vec![format!("10.{}.{low}.0/24", 244 + high).parse().unwrap(), format!("fd00:0:0:{number:x}::/64").parse().unwrap()],
        addresses: ends.iter().map(|address| address.parse().unwrap()).collect(),
        announcement: Some(Announcement { backend: VXLAN.to_owned(), ends: (0..).zip(&ends).map(end).collect() }),
        cpu_millis: 2000,
        problem: String::new(),
        ..ClusterNode::default()
    }
}

/// As another one in a cluster of this backend: of several kinds, where several go together.
fn node_beside(backend: OverlayBackend, number: u16) -> ClusterNode {
    let mut node = node(number);
    let announced = node.announcement.as_mut().unwrap();
    match (backend, number % 3) {
        (OverlayBackend::Wireguard, _) => {
            announced.backend = WIREGUARD.to_owned();
            for (family, end) in (0..).zip(&mut announced.ends) {
                end.tunnel = Some(Tunnel::Wireguard(WireguardEnd { public_key: key(family, number), port: Some(51820) }));
            }
        }
        (_, 0) => {}
        (OverlayBackend::HostGateway, 2) => {
            announced.backend = HOST_GATEWAY.to_owned();
            announced.ends.iter_mut().for_each(|end| end.tunnel = None);
        }
        _ => announced.backend = HOST_GATEWAY.to_owned(),
    }
    node
}

fn key(family: u8, number: u16) -> PublicKey {
    let mut key = [family + 1; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey(key)
}

fn name(number: u16) -> String {
    format!("node-{number:03}")
}

/// As an agent finds it that starts on a machine that was just booted.
fn seen(backend: OverlayBackend, numbers: impl IntoIterator<Item = u16>) -> Seen {
    let mut machine = changed(&machine("worker"), |config| {
        config.cluster.network.pod_cidrs = vec!["10.244.0.0/14".parse().unwrap(), "fd00::/48".parse().unwrap()];
        config.cluster.network.overlay.backend = backend;
    });
    machine.facts.node_name = OWN.to_owned();
    machine.facts.node_ips = node(1).addresses;
    let own = ClusterNode { announcement: None, ..node(1) };
    let others = numbers.into_iter().map(|number| (name(number), node_beside(backend, number)));
    let underlay = |address: IpAddr| {
        let network = IpNet::new(address, if address.is_ipv6() { 64 } else { 24 }).unwrap().trunc();
        (address, Underlay { link: 2, mtu: 1500, network })
    };
    Seen {
        machine: Ok(machine),
        machine_id: "0123456789abcdef0123456789abcdef\n".to_owned(),
        nodes: others.chain([(OWN.to_owned(), own)]).collect(),
        kernel: Kernel { underlay: node(1).addresses.into_iter().map(underlay).collect(), ..Kernel::default() },
        overlays: BTreeMap::new(),
        peers: BTreeMap::new(),
    }
}

/// What the real kernel does, and refuses.
fn apply(seen: &mut Seen, action: Action) {
    let kernel = &mut seen.kernel;
    match action {
        Action::RemoveDevice(name) => {
            assert!(kernel.devices.remove(name).is_some());
            kernel.tables.forget(name);
        }
        Action::AddDevice(name, device) => {
            let (is, port) = match device.wraps {
                Wraps::Vxlan { vni, hardware_address } => (Is::Vxlan { vni, hardware_address, local: Some(device.local) }, device.port),
                Wraps::Wireguard => (Is::Wireguard { public_key: None }, 0),
            };
            let made = Present { ours: true, is, port, mtu: device.mtu, up: true, addresses: BTreeSet::new() };
            assert!(kernel.devices.insert(name, made).is_none());
        }
        Action::ChangeDevice(name, device) => {
            let present = kernel.devices.get_mut(name).unwrap();
            (present.mtu, present.up) = (device.mtu, true);
            if let Is::Vxlan { local, .. } = &mut present.is {
                *local = Some(device.local);
            }
        }
        Action::SetTunnel(name, tunnel) => {
            let present = kernel.devices.get_mut(name).unwrap();
            present.port = tunnel.port;
            if tunnel.key == Key::Make {
                present.is = Is::Wireguard { public_key: Some(PublicKey([u8::try_from(name.len()).unwrap(); 32])) };
            }
        }
        Action::AddAddress(name, address) => assert!(kernel.devices.get_mut(name).unwrap().addresses.insert(address.into())),
        Action::RemoveAddress(name, address) => assert!(kernel.devices.get_mut(name).unwrap().addresses.remove(&address)),
        Action::Program(operations) => operations.into_iter().for_each(|operation| program(kernel, operation)),
        Action::TellOverlays(overlays) => seen.overlays = overlays,
        Action::TellPeers(peers) => seen.peers = peers,
        Action::Announce(announcement) => {
            let own = seen.nodes.get_mut(OWN).unwrap();
            (own.announcement, own.problem) = (Some(announcement), String::new());
        }
    }
}

fn program(kernel: &mut Kernel, Operation { verb, entry }: Operation) {
    assert!(entry.device().is_none_or(|device| kernel.devices.contains_key(device)), "{entry:?}");
    let tables = &mut kernel.tables;
    let removes = verb == Verb::Remove;
    let was_there = match entry.clone() {
        Entry::Route { to, hop } => {
            assert!(!kernel.foreign_routes.contains(&to), "{to}");
            if removes { tables.routes.remove(&to).is_some() } else { tables.routes.insert(to, hop).is_some() }
        }
        Entry::Neighbour { device, address, hardware_address } => match verb {
            Verb::Remove => tables.neighbours.remove(&(device, address)).is_some(),
            Verb::Add | Verb::Replace => tables.neighbours.insert((device, address), hardware_address).is_some(),
        },
        Entry::Forward { device, hardware_address, to } => match verb {
            Verb::Remove => tables.forwards.remove(&(device, hardware_address)).is_some(),
            Verb::Add | Verb::Replace => tables.forwards.insert((device, hardware_address), to).is_some(),
        },
        Entry::Secure { device, public_key, .. } if removes => tables.secures.remove(&(device, public_key)).is_some(),
        Entry::Secure { device, public_key, peer } => {
            // A device has each network once: whoever had it before loses it.
            let others = tables.secures.iter_mut().filter(|((on, _), _)| *on == device);
            others.for_each(|(_, other)| other.pods.retain(|pods| !peer.pods.contains(pods)));
            tables.secures.insert((device, public_key), peer).is_some()
        }
    };
    assert_eq!(was_there, verb != Verb::Add, "{verb:?} {entry:?}");
}

/// Applies one plan, and another one that tells of a key that was made in the first; a further one has to find nothing left.
fn settle(seen: &mut Seen) {
    for _ in 0..2 {
        if let Plan::Act(actions) = plan(seen) {
            actions.into_iter().for_each(|action| apply(seen, action));
        }
    }
    assert_eq!(plan(seen), Plan::Settled);
}

fn print(actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        match action {
            Action::Program(operations) => operations.iter().for_each(|operation| writeln!(text, "{operation:?}").unwrap()),
            other => writeln!(text, "{other:?}").unwrap(),
        }
    }
    text
}

/// Takes down what is planned after each step.
#[derive(Default)]
struct Story(String);

impl Story {
    fn step(&mut self, what: &str, seen: &mut Seen) {
        let Plan::Act(actions) = plan(seen) else { panic!("{what}") };
        write!(self.0, "{what}\n{}\n", print(&actions)).unwrap();
        actions.into_iter().for_each(|action| apply(seen, action));
    }
}

fn end(seen: &mut Seen, number: u16) -> &mut TunnelEnd {
    &mut seen.nodes.get_mut(&name(number)).unwrap().announcement.as_mut().unwrap().ends[0]
}

#[test]
fn goldens() {
    let mut seen = seen(OverlayBackend::Vxlan, [3]);
    let mut story = Story::default();
    story.step("a first start, with one other machine", &mut seen);
    seen.nodes.insert(name(6), node(6));
    story.step("a machine joins", &mut seen);
    end(&mut seen, 3).address = "192.0.2.22".parse().unwrap();
    story.step("one has another address", &mut seen);
    let other = VxlanEnd { hardware_address: HardwareAddress([2, 9, 9, 9, 9, 9]), vni: VNI };
    end(&mut seen, 3).tunnel = Some(Tunnel::Vxlan(other));
    story.step("one has another device", &mut seen);
    seen.nodes.remove(&name(3));
    story.step("one leaves", &mut seen);
    seen.kernel.underlay.values_mut().for_each(|underlay| underlay.mtu = 1400);
    story.step("the MTU of the link below shrinks", &mut seen);
    seen.kernel.devices.get_mut("flannel.1").unwrap().up = false;
    story.step("somebody takes the device down", &mut seen);
    seen.kernel.devices.remove("flannel-v6.1");
    seen.kernel.tables.forget("flannel-v6.1");
    story.step("somebody removes a device", &mut seen);
    seen.machine = Ok(changed(seen.machine.as_ref().unwrap(), |config| config.cluster.network.overlay.port = 4789));
    story.step("the config gives another port", &mut seen);
    assert_eq!(plan(&seen), Plan::Settled);
    crate::golden::check("src/controllers/overlay/golden/plan.txt", &story.0);
}

#[test]
fn wireguard() {
    let mut seen = seen(OverlayBackend::Wireguard, [3]);
    let mut story = Story::default();
    story.step("a first start, with one other machine", &mut seen);
    story.step("the kernel has the keys", &mut seen);
    let tunnel = |number, port| Some(Tunnel::Wireguard(WireguardEnd { public_key: key(0, number), port: Some(port) }));
    end(&mut seen, 3).tunnel = tunnel(33, 51820);
    story.step("one was booted anew, and has another key", &mut seen);
    end(&mut seen, 3).tunnel = tunnel(33, 4789);
    story.step("one listens at another port", &mut seen);
    end(&mut seen, 3).address = "192.0.2.22".parse().unwrap();
    story.step("one has another address", &mut seen);
    seen.machine = Ok(changed(seen.machine.as_ref().unwrap(), |config| config.cluster.network.overlay.port = 4789));
    story.step("the config gives another port", &mut seen);
    seen.nodes.insert(name(6), node(6));
    story.step("a machine that sends in the clear", &mut seen);
    seen.nodes.remove(&name(3));
    story.step("one leaves", &mut seen);
    assert_eq!(plan(&seen), Plan::Settled);
    crate::golden::check("src/controllers/overlay/golden/wireguard.txt", &story.0);
}

#[test]
fn host_gateway() {
    let mut seen = seen(OverlayBackend::HostGateway, [4, 256 + 4, 256 + 2]);
    let mut story = Story::default();
    story.step("a first start, with one machine on the link and two elsewhere, of which one tells of no tunnel", &mut seen);
    seen.nodes.insert(name(3), node(3));
    story.step("one that speaks VXLAN joins", &mut seen);
    end(&mut seen, 4).address = "198.51.100.4".parse().unwrap();
    story.step("one moves to another link", &mut seen);
    seen.kernel.underlay.values_mut().for_each(|underlay| underlay.link = 7);
    end(&mut seen, 4).address = "192.0.2.4".parse().unwrap();
    story.step("it comes back, to another device", &mut seen);
    assert_eq!(plan(&seen), Plan::Settled);
    crate::golden::check("src/controllers/overlay/golden/host_gateway.txt", &story.0);
}

/// WireGuard answers a peer where its packets come from. That must not be undone at each look, and end when the peer tells another address.
#[test]
fn where_the_kernel_found_a_peer_is_left() {
    let mut seen = seen(OverlayBackend::Wireguard, [3]);
    settle(&mut seen);
    let endpoint = |seen: &Seen| seen.kernel.tables.secures[&("flannel-wg", key(0, 3))].endpoint.unwrap().to_string();
    assert_eq!(endpoint(&seen), "192.0.2.3:51820");
    for found in seen.kernel.tables.secures.values_mut() {
        found.endpoint = Some("203.0.113.5:1024".parse().unwrap());
    }
    assert_eq!(plan(&seen), Plan::Settled);
    end(&mut seen, 3).address = "192.0.2.33".parse().unwrap();
    settle(&mut seen);
    assert_eq!(endpoint(&seen), "192.0.2.33:51820");
    // An agent that starts anew does not know what was told before.
    seen.kernel.tables.secures.values_mut().for_each(|found| found.endpoint = Some("203.0.113.5:1024".parse().unwrap()));
    seen.peers.clear();
    settle(&mut seen);
    assert_eq!(endpoint(&seen), "192.0.2.33:51820");
}

#[test]
fn nothing_is_touched_before_all_nodes_are_known() {
    let mut seen = seen(OverlayBackend::Vxlan, [2]);
    settle(&mut seen);
    let own = seen.nodes.remove(OWN).unwrap();
    assert!(matches!(plan(&seen), Plan::Waiting(_)), "an agent that starts anew must not take the ways to peers");
    seen.nodes.insert(OWN.to_owned(), ClusterNode { pod_cidrs: Vec::new(), ..own });
    assert!(matches!(plan(&seen), Plan::Waiting(_)));
}

#[test]
fn an_address_that_is_lost_for_a_moment_changes_nothing() {
    let mut seen = seen(OverlayBackend::Vxlan, [2]);
    settle(&mut seen);
    seen.kernel.underlay.clear();
    assert_eq!(plan(&seen), Plan::Settled);
}

#[test]
fn other_networks_are_left_alone() {
    let mut seen = seen(OverlayBackend::Vxlan, [2]);
    seen.machine = Ok(changed(seen.machine.as_ref().unwrap(), |config| config.cluster.network.cni = Cni::None));
    assert_eq!(plan(&seen), Plan::Settled);
}

#[test]
fn pods_send_as_much_as_the_way_carries() {
    let mtus = |backend, mtu| {
        let mut seen = seen(backend, [2]);
        seen.machine = Ok(changed(seen.machine.as_ref().unwrap(), |config| config.cluster.network.overlay.mtu = mtu));
        settle(&mut seen);
        let mtu = |name| (seen.kernel.devices[name].mtu, seen.overlays[name].mtu);
        let kind = if backend == OverlayBackend::Wireguard { Kind::Wireguard } else { Kind::Vxlan };
        [mtu(device(kind, false)), mtu(device(kind, true))]
    };
    let auto = Mtu::Auto(machine::config::Auto::Auto);
    assert_eq!(mtus(OverlayBackend::Vxlan, auto), [(1450, 1450), (1430, 1430)]);
    assert_eq!(mtus(OverlayBackend::Wireguard, auto), [(1440, 1440), (1420, 1420)]);
    assert_eq!(mtus(OverlayBackend::HostGateway, auto), [(1450, 1500), (1430, 1500)]);
    assert_eq!(mtus(OverlayBackend::Vxlan, Mtu::Bytes(1300)), [(1300, 1300), (1300, 1300)]);
    assert_eq!(mtus(OverlayBackend::HostGateway, Mtu::Bytes(1440)), [(1440, 1440), (1430, 1440)]);
}

/// What happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    Joins(u16),
    Leaves(u16),
    Address(u16, u8),
    Device(u16, u8),
    Port(u16, Option<u16>),
    Silent(u16),
    Hostile(u16, u16),
    Mtu(u32),
    DeviceGone(bool),
    ForeignRoute(u16),
    RouteGone,
}

fn event() -> impl Strategy<Value = Event> {
    let number = 2..500_u16;
    prop_oneof![
        8 => number.clone().prop_map(Event::Joins),
        4 => number.clone().prop_map(Event::Leaves),
        3 => (number.clone(), any::<u8>()).prop_map(|(number, last)| Event::Address(number, last)),
        3 => (number.clone(), any::<u8>()).prop_map(|(number, last)| Event::Device(number, last)),
        2 => (number.clone(), any::<Option<u16>>()).prop_map(|(number, port)| Event::Port(number, port)),
        1 => number.clone().prop_map(Event::Silent),
        2 => (number.clone(), 1..500_u16).prop_map(|(number, victim)| Event::Hostile(number, victim)),
        1 => (1280..9000_u32).prop_map(Event::Mtu),
        1 => any::<bool>().prop_map(Event::DeviceGone),
        1 => number.prop_map(Event::ForeignRoute),
        1 => Just(Event::RouteGone),
    ]
}

fn happen(seen: &mut Seen, event: Event) {
    let announced = |seen: &mut Seen, number: u16, change: &dyn Fn(&mut TunnelEnd)| {
        let ends = seen.nodes.get_mut(&name(number)).and_then(|node| node.announcement.as_mut()).map(|announced| &mut announced.ends);
        ends.into_iter().flatten().for_each(change);
    };
    match event {
        Event::Joins(number) => {
            let backend = seen.machine.as_ref().unwrap().config.cluster.network.overlay.backend;
            seen.nodes.insert(name(number), node_beside(backend, number));
        }
        Event::Leaves(number) => drop(seen.nodes.remove(&name(number))),
        Event::Address(number, last) => announced(seen, number, &|end| {
            end.address =
                if end.address.is_ipv6() { format!("2001:db8:1::{last:x}") } else { format!("198.51.100.{last}") }.parse().unwrap()
        }),
        Event::Device(number, last) => {
            announced(seen, number, &|end| match &mut end.tunnel {
                Some(Tunnel::Vxlan(vxlan)) => vxlan.hardware_address.0 = [6, 0, 0, 0, u8::from(end.address.is_ipv6()), last],
                Some(Tunnel::Wireguard(wireguard)) => wireguard.public_key = key(u8::from(end.address.is_ipv6()), last.into()),
                None => {}
            });
        }
        Event::Port(number, port) => announced(seen, number, &|end| {
            if let Some(Tunnel::Wireguard(wireguard)) = &mut end.tunnel {
                wireguard.port = port;
            }
        }),
        Event::Silent(number) => drop(seen.nodes.get_mut(&name(number)).map(|node| node.announcement.take())),
        Event::Hostile(number, victim) => {
            let victim = node_beside(seen.machine.as_ref().unwrap().config.cluster.network.overlay.backend, victim);
            if let Some(node) = seen.nodes.get_mut(&name(number)) {
                (node.pod_cidrs, node.announcement) = (victim.pod_cidrs, victim.announcement);
            }
        }
        Event::Mtu(mtu) => seen.kernel.underlay.values_mut().for_each(|present| present.mtu = mtu),
        Event::DeviceGone(ipv6) => {
            for kind in [Kind::Vxlan, Kind::Wireguard] {
                seen.kernel.devices.remove(device(kind, ipv6));
                seen.kernel.tables.forget(device(kind, ipv6));
            }
        }
        Event::ForeignRoute(number) => {
            // The kernel has one route to a destination.
            let pods = node(number).pod_cidrs[0];
            if !seen.kernel.tables.routes.contains_key(&pods) {
                seen.kernel.foreign_routes.insert(pods);
            }
        }
        Event::RouteGone => drop(seen.kernel.tables.routes.pop_first()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After each event a plan settles, and what the kernel has then is what an agent that finds nothing would make.
    #[test]
    fn whatever_happens_the_kernel_has_what_a_new_one_would(
        backend in prop_oneof![Just(OverlayBackend::Vxlan), Just(OverlayBackend::Wireguard), Just(OverlayBackend::HostGateway)],
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut seen = seen(backend, (2..20).step_by(3));
        settle(&mut seen);
        for event in events {
            happen(&mut seen, event);
            settle(&mut seen);
            let mut fresh = Seen {
                machine: seen.machine.clone(),
                machine_id: seen.machine_id.clone(),
                nodes: seen.nodes.clone(),
                kernel: Kernel { devices: BTreeMap::new(), tables: Tables::default(), ..seen.kernel.clone() },
                overlays: BTreeMap::new(),
                peers: BTreeMap::new(),
            };
            settle(&mut fresh);
            prop_assert_eq!(&fresh.kernel, &seen.kernel);
            prop_assert_eq!(&fresh.peers, &seen.peers);
        }
    }
}
