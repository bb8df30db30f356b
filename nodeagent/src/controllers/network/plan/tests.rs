//! The network's decisions, against a model of the kernel that carries actions out.

use super::links::tests::shape;
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::resources::link::Shape;
use crate::resources::network::LeaseRoute;

pub fn ethernet(index: u32, up: bool) -> Link {
    let hardware_address = format!("52:54:00:00:00:{index:02x}");
    Link { index, kind: "ethernet".into(), hardware_address, mtu: 1500, up, carrier: up, ..Link::default() }
}

pub fn lease() -> Lease {
    Lease {
        address: "10.0.2.15/24".parse().unwrap(),
        routes: vec![LeaseRoute { to: "0.0.0.0/0".parse().unwrap(), via: Some("10.0.2.2".parse().unwrap()) }],
        nameservers: vec!["10.0.2.3".parse().unwrap()],
        time_servers: Vec::new(),
        hostname: None,
        mtu: Some(1400),
        server: "10.0.2.2".parse().unwrap(),
        seconds: 86_400,
    }
}

/// Does to the snapshot what the kernel would do.
fn carry_out(seen: &mut Seen, action: Action) {
    match action {
        Action::SetLink { link, up, mtu } => {
            if let Some(Shape::Vlan(vlan)) = &seen.kernel.links[&link].shape {
                let parent = &seen.kernel.links[&vlan.parent];
                assert!(parent.up && mtu.is_none_or(|mtu| mtu <= parent.mtu), "{link} before its parent {parent:?}");
            }
            let link = seen.kernel.links.get_mut(&link).unwrap();
            link.up = up;
            link.carrier = up;
            link.mtu = mtu.unwrap_or(link.mtu);
        }
        Action::AddAddress(address) => assert!(seen.kernel.addresses.insert(address)),
        Action::RemoveAddress(address) => assert!(seen.kernel.addresses.remove(&address)),
        Action::TryAddressAgain(address) => panic!("no address here is refused, and {address:?} neither"),
        Action::TellDuplicate(told) => panic!("no address here is another machine's: {told:?}"),
        Action::AddRoute(route) => assert!(seen.kernel.routes.insert(route)),
        Action::RemoveRoute(route) => assert!(seen.kernel.routes.remove(&route)),
        Action::AddRule(rule) => assert!(seen.kernel.rules.insert(rule)),
        Action::RemoveRule(rule) => assert!(seen.kernel.rules.remove(&rule)),
        Action::ShapeLinks(changes) => changes.into_iter().for_each(|change| shape(seen, change)),
        Action::StartDhcp { of, .. } => {
            seen.clients.insert(of.clone());
            seen.leases.insert(of.to_string(), lease());
        }
        Action::StopDhcp(of) => {
            seen.clients.remove(&of);
            seen.leases.remove(&of.to_string());
        }
        Action::SetHostname(name) => seen.hostname = name,
        Action::WriteFile(file, contents) => {
            seen.files.insert(file, contents);
        }
        Action::TellResolvers(resolvers) => seen.resolvers = Some(resolvers),
        Action::TellHostname(name) => seen.name = Some(name),
        Action::TellNodeIps(ips) => seen.node_ips = Some(ips),
    }
}

/// Plans and carries out until nothing is left to do.
fn settle(seen: &mut Seen) {
    let missing = settle_or_wait(seen);
    assert!(missing.is_empty(), "the network waits for {missing:?}");
}

/// The same; what it waits for in the end.
pub fn settle_or_wait(seen: &mut Seen) -> Vec<String> {
    for _ in 0..10 {
        match plan(seen) {
            Plan::Settled => return Vec::new(),
            Plan::Act(actions) => actions.into_iter().for_each(|action| carry_out(seen, action)),
            Plan::Waiting(missing) => return missing.iter().map(ToString::to_string).collect(),
        }
    }
    panic!("not settled: {:?}", plan(seen));
}

fn in_maintenance() -> Seen {
    let mut seen = Seen { machine_id: "0123456789abcdef0123456789abcdef".into(), ..Seen::default() };
    seen.kernel.links.insert("eth0".into(), ethernet(2, false));
    seen.kernel.links.insert("cni0".into(), Link { kind: "bridge".into(), ..ethernet(3, true) });
    seen
}

#[test]
fn without_a_config_every_ethernet_link_gets_a_lease() {
    let mut seen = in_maintenance();
    settle(&mut seen);
    assert_eq!(seen.clients, BTreeSet::from([dhcp::Of::named("eth0")]));
    assert_eq!(seen.kernel.links["eth0"].mtu, 1400);
    assert!(seen.kernel.addresses.iter().any(|address| address.address == lease().address && address.owned));
    assert_eq!(seen.kernel.routes.len(), 1);
    assert_eq!(seen.hostname, "corten-01234567");
    assert_eq!(seen.files[&render::File::ResolvConf], "nameserver 10.0.2.3\n");
}

#[test]
fn a_lost_lease_takes_its_address_and_routes_with_it_and_nothing_else() {
    let mut seen = in_maintenance();
    settle(&mut seen);
    let foreign = Address { link: "eth0".into(), address: "192.0.2.7/32".parse().unwrap(), owned: false, state: AddressState::default() };
    seen.kernel.addresses.insert(foreign.clone());
    seen.leases.clear();
    settle(&mut seen);
    assert_eq!(seen.kernel.addresses, BTreeSet::from([foreign]));
    assert!(seen.kernel.routes.is_empty());
}

#[test]
fn the_mtu_of_the_config_counts_then_that_of_the_lease_if_it_makes_sense() {
    for (configured, leased, expected) in
        [(None, Some(1400), 1400), (Some(1450), Some(1400), 1450), (None, None, 1500), (None, Some(575), 1500), (Some(9000), None, 9000)]
    {
        let interface = Interface { name: "eth0".into(), dhcp: true, mtu: configured, ..Interface::default() };
        let config = changed(&machine("worker"), |config| config.machine.network.interfaces = vec![interface]).config;
        let mut seen = Seen { config: Some(config), ..in_maintenance() };
        settle(&mut seen);
        seen.leases.insert("eth0".into(), Lease { mtu: leased, ..lease() });
        seen.kernel.links.get_mut("eth0").unwrap().mtu = 1500;
        settle(&mut seen);
        assert_eq!(seen.kernel.links["eth0"].mtu, expected, "{configured:?} {leased:?}");
    }
}

#[test]
fn a_renewal_with_another_address_router_and_name_server_is_followed() {
    let mut seen = in_maintenance();
    settle(&mut seen);
    let via = "10.0.2.9".parse().unwrap();
    let routes = vec![LeaseRoute { to: "0.0.0.0/0".parse().unwrap(), via: Some(via) }];
    let renewed = Lease { address: "10.0.2.16/24".parse().unwrap(), routes, nameservers: vec![via], ..lease() };
    seen.leases.insert("eth0".into(), renewed.clone());
    settle(&mut seen);
    let addresses: Vec<IpNet> = seen.kernel.addresses.iter().map(|address| address.address).collect();
    let routers: Vec<Option<IpAddr>> = seen.kernel.routes.iter().map(|route| route.via).collect();
    assert_eq!((addresses, routers), (vec![renewed.address], vec![Some(via)]));
    assert_eq!(seen.resolvers, Some(Resolvers { nameservers: vec![via] }));
}

#[test]
fn a_link_without_a_carrier_keeps_what_it_has() {
    let mut seen = in_maintenance();
    settle(&mut seen);
    let before = seen.kernel.clone();
    seen.kernel.links.get_mut("eth0").unwrap().carrier = false;
    assert_eq!(plan(&seen), Plan::Settled);
    assert_eq!((&seen.kernel.addresses, &seen.kernel.routes), (&before.addresses, &before.routes));
}

#[test]
fn a_name_from_the_network_is_checked() {
    for (given, taken) in
        [("node-1", true), ("a.example.org", true), ("", false), ("-x", false), ("UPPER", false), ("a b", false), ("../x", false)]
    {
        let mut seen = in_maintenance();
        seen.leases.insert("eth0".into(), Lease { hostname: Some(given.into()), ..lease() });
        assert_eq!(hostname(&seen).source == "dhcp", taken, "{given:?}");
    }
}

#[test]
fn the_node_ip_is_on_the_link_of_the_best_default_route() {
    let mut kernel = Kernel::default();
    for (link, address, metric) in [("eth0", "192.0.2.1/24", 2048), ("eth1", "198.51.100.1/24", 1024)] {
        let address: IpNet = address.parse().unwrap();
        kernel.addresses.insert(Address { link: link.into(), address, owned: true, state: AddressState::default() });
        kernel.routes.insert(Route {
            link: link.into(),
            to: "0.0.0.0/0".parse().unwrap(),
            via: None,
            metric,
            table: MAIN_TABLE,
            owned: true,
        });
    }
    assert_eq!(node_ip(&kernel, &[], &|_| false, true), Some("198.51.100.1".parse().unwrap()));
    // The virtual IP, or a Service's address, is another machine's tomorrow.
    assert_eq!(node_ip(&kernel, &[], &|ip| ip == IpAddr::from([198, 51, 100, 1]), true), None);
    assert_eq!(node_ip(&kernel, &["192.0.2.0/24".parse().unwrap()], &|_| false, true), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(node_ip(&kernel, &[], &|_| false, false), None);
}

#[test]
fn without_a_default_route_the_node_ip_is_on_an_ethernet_link() {
    let mut kernel = in_maintenance().kernel;
    for (link, address) in [("cni0", "10.244.0.1/24"), ("eth0", "10.0.2.15/24")] {
        kernel.addresses.insert(Address {
            link: link.into(),
            address: address.parse().unwrap(),
            owned: true,
            state: AddressState::default(),
        });
    }
    assert_eq!(node_ip(&kernel, &[], &|_| false, true), Some("10.0.2.15".parse().unwrap()));
}

#[test]
fn names_are_asked_of_the_machine_itself_while_it_listens() {
    let mut seen = in_maintenance();
    settle(&mut seen);
    assert_eq!(seen.files[&render::File::PodsResolvConf], "nameserver 10.0.2.3\n");
    let addresses = ["169.254.116.108", "fd6b:2f1c:74a9::53"].map(|address| address.parse().unwrap()).to_vec();
    seen.local_resolver = Some(LocalResolver { addresses });
    settle(&mut seen);
    assert_eq!(seen.files[&render::File::ResolvConf], "nameserver 169.254.116.108\nnameserver 10.0.2.3\n");
    for (pods, expected) in [
        (vec!["10.244.0.0/16"], "nameserver 169.254.116.108\n"),
        (vec!["fd00::/48"], "nameserver fd6b:2f1c:74a9::53\n"),
        (vec!["10.244.0.0/16", "fd00::/48"], "nameserver 169.254.116.108\nnameserver fd6b:2f1c:74a9::53\n"),
    ] {
        let config = changed(&machine("worker"), |config| {
            config.cluster.network.pod_cidrs = pods.iter().map(|pods| pods.parse().unwrap()).collect();
        });
        let configured = Seen { config: Some(config.config), ..seen.clone() };
        let Plan::Act(actions) = plan(&configured) else { panic!("the file has to be written") };
        assert!(actions.contains(&Action::WriteFile(render::File::PodsResolvConf, expected.to_owned())), "{pods:?}: {actions:?}");
    }
    seen.local_resolver = None;
    settle(&mut seen);
    assert_eq!(seen.files[&render::File::ResolvConf], "nameserver 10.0.2.3\n");
}
