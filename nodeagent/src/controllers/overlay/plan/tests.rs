use std::fmt::Write as _;

use proptest::prelude::*;

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
    let end =
        |(family, address): (u8, &String)| TunnelEnd { address: address.parse().unwrap(), hardware_address: hardware(family), vni: VNI };
    ClusterNode {
        labels: BTreeMap::new(),
        created_at: format!("2026-11-25T09:00:00Z {number:05}"),
        ready: true,
        pod_cidrs: vec![format!("10.{}.{low}.0/24", 244 + high).parse().unwrap(), format!("fd00:0:0:{number:x}::/64").parse().unwrap()],
        addresses: ends.iter().map(|address| address.parse().unwrap()).collect(),
        announcement: Some(Announcement { backend: VXLAN.to_owned(), ends: (0..).zip(&ends).map(end).collect() }),
        cpu_millis: 2000,
        problem: String::new(),
    }
}

fn name(number: u16) -> String {
    format!("node-{number:03}")
}

/// As an agent finds it that starts on a machine that was just booted.
fn seen(numbers: impl IntoIterator<Item = u16>) -> Seen {
    let mut machine = changed(&machine("worker"), |config| {
        config.cluster.network.pod_cidrs = vec!["10.244.0.0/14".parse().unwrap(), "fd00::/48".parse().unwrap()];
    });
    machine.facts.node_name = OWN.to_owned();
    machine.facts.node_ips = node(1).addresses;
    let own = ClusterNode { announcement: None, ..node(1) };
    let others = numbers.into_iter().map(|number| (name(number), node(number)));
    Seen {
        machine: Ok(machine),
        machine_id: "0123456789abcdef0123456789abcdef\n".to_owned(),
        nodes: others.chain([(OWN.to_owned(), own)]).collect(),
        kernel: Kernel { underlay: node(1).addresses.into_iter().map(|address| (address, 1500)).collect(), ..Kernel::default() },
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
            forget(&mut kernel.tables, name);
        }
        Action::AddDevice(name, device) => {
            let made = Present {
                ours: true,
                foreign_kind: false,
                vni: device.vni,
                port: device.port,
                local: Some(device.local),
                mtu: device.mtu,
                hardware_address: device.hardware_address,
                up: true,
                addresses: BTreeSet::new(),
            };
            assert!(kernel.devices.insert(name, made).is_none());
        }
        Action::ChangeDevice(name, device) => {
            let present = kernel.devices.get_mut(name).unwrap();
            (present.local, present.mtu, present.up) = (Some(device.local), device.mtu, true);
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
    let tables = &mut kernel.tables;
    let was_there = match entry {
        Entry::Route { device, to, via } => {
            assert!(kernel.devices.contains_key(device) && !kernel.foreign_routes.contains(&to), "{to}");
            match verb {
                Verb::Remove => tables.routes.remove(&to).is_some(),
                Verb::Add | Verb::Replace => tables.routes.insert(to, (device, via)).is_some(),
            }
        }
        Entry::Neighbour { device, address, hardware_address } => match verb {
            Verb::Remove => tables.neighbours.remove(&(device, address)).is_some(),
            Verb::Add | Verb::Replace => tables.neighbours.insert((device, address), hardware_address).is_some(),
        },
        Entry::Forward { device, hardware_address, to } => match verb {
            Verb::Remove => tables.forwards.remove(&(device, hardware_address)).is_some(),
            Verb::Add | Verb::Replace => tables.forwards.insert((device, hardware_address), to).is_some(),
        },
    };
    assert_eq!(was_there, verb != Verb::Add, "{verb:?} {entry:?}");
}

/// Applies one plan; another one has to find nothing left.
fn settle(seen: &mut Seen) {
    if let Plan::Act(actions) = plan(seen) {
        actions.into_iter().for_each(|action| apply(seen, action));
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

#[test]
fn goldens() {
    let mut seen = seen([2]);
    let mut text = String::new();
    let mut step = |what: &str, seen: &mut Seen| {
        let Plan::Act(actions) = plan(seen) else { panic!("{what}") };
        write!(text, "{what}\n{}\n", print(&actions)).unwrap();
        settle(seen);
    };
    step("a first start, with one other machine", &mut seen);
    seen.nodes.insert(name(3), node(3));
    step("a machine joins", &mut seen);
    let moved = &mut seen.nodes.get_mut(&name(2)).unwrap();
    moved.announcement.as_mut().unwrap().ends[0].address = "192.0.2.22".parse().unwrap();
    step("one has another address", &mut seen);
    seen.nodes.get_mut(&name(2)).unwrap().announcement.as_mut().unwrap().ends[0].hardware_address = HardwareAddress([2, 9, 9, 9, 9, 9]);
    step("one has another device", &mut seen);
    seen.nodes.remove(&name(2));
    step("one leaves", &mut seen);
    seen.kernel.underlay.values_mut().for_each(|mtu| *mtu = 1400);
    step("the MTU of the link below shrinks", &mut seen);
    seen.kernel.devices.get_mut(device(false)).unwrap().up = false;
    step("somebody takes the device down", &mut seen);
    seen.kernel.devices.remove(device(true));
    forget(&mut seen.kernel.tables, device(true));
    step("somebody removes a device", &mut seen);
    seen.machine = Ok(changed(seen.machine.as_ref().unwrap(), |config| config.cluster.network.overlay.port = 4789));
    step("the config gives another port", &mut seen);
    crate::golden::check("src/controllers/overlay/golden/plan.txt", &text);
}

#[test]
fn nothing_is_touched_before_all_nodes_are_known() {
    let mut seen = seen([2]);
    settle(&mut seen);
    let own = seen.nodes.remove(OWN).unwrap();
    assert!(matches!(plan(&seen), Plan::Waiting(_)), "an agent that starts anew must not take the ways to peers");
    seen.nodes.insert(OWN.to_owned(), ClusterNode { pod_cidrs: Vec::new(), ..own });
    assert!(matches!(plan(&seen), Plan::Waiting(_)));
}

#[test]
fn an_address_that_is_lost_for_a_moment_changes_nothing() {
    let mut seen = seen([2]);
    settle(&mut seen);
    seen.kernel.underlay.clear();
    assert_eq!(plan(&seen), Plan::Settled);
}

#[test]
fn other_backends_wait_and_other_networks_are_left_alone() {
    let mut seen = seen([2]);
    let original = seen.machine.clone().unwrap();
    for (backend, word) in [(OverlayBackend::Wireguard, "wireguard"), (OverlayBackend::HostGateway, "hostgateway")] {
        seen.machine = Ok(changed(&original, |config| config.cluster.network.overlay.backend = backend));
        let Plan::Waiting(missing) = plan(&seen) else { panic!("{word}") };
        assert!(missing[0].to_string().contains(word), "{missing:?}");
    }
    seen.machine = Ok(changed(&original, |config| config.cluster.network.cni = Cni::None));
    assert_eq!(plan(&seen), Plan::Settled);
}

/// What happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    Joins(u16),
    Leaves(u16),
    Address(u16, u8),
    Device(u16, u8),
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
        Event::Joins(number) => drop(seen.nodes.insert(name(number), node(number))),
        Event::Leaves(number) => drop(seen.nodes.remove(&name(number))),
        Event::Address(number, last) => announced(seen, number, &|end| {
            end.address =
                if end.address.is_ipv6() { format!("2001:db8:1::{last:x}") } else { format!("198.51.100.{last}") }.parse().unwrap()
        }),
        Event::Device(number, last) => {
            announced(seen, number, &|end| end.hardware_address.0 = [6, 0, 0, 0, u8::from(end.address.is_ipv6()), last])
        }
        Event::Silent(number) => drop(seen.nodes.get_mut(&name(number)).map(|node| node.announcement.take())),
        Event::Hostile(number, victim) => {
            let victim = node(victim);
            if let Some(node) = seen.nodes.get_mut(&name(number)) {
                (node.pod_cidrs, node.announcement) = (victim.pod_cidrs, victim.announcement);
            }
        }
        Event::Mtu(mtu) => seen.kernel.underlay.values_mut().for_each(|present| *present = mtu),
        Event::DeviceGone(ipv6) => {
            seen.kernel.devices.remove(device(ipv6));
            forget(&mut seen.kernel.tables, device(ipv6));
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

    /// After each event one plan settles, and what the kernel has then is what an agent that finds nothing would make.
    #[test]
    fn whatever_happens_the_kernel_has_what_a_new_one_would(events in proptest::collection::vec(event(), 1..60)) {
        let mut seen = seen((2..20).step_by(3));
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
