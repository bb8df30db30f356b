//! Decides what the network lacks: which links to make and raise, which addresses, routes and rules to add and remove, which DHCP clients to
//! run, and what the machine is called. Only what carries our mark is ever removed.

pub mod links;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use links::LinkChange;
use machine::config::{Config, Interface, MAIN_TABLE, bottom_up};

use super::duplicates::Told;
use super::kernel::{Kernel, rule};
use super::{dhcp, render};
use crate::plan::Plan;
use crate::resources::link::{Link, RoutingRule};
use crate::resources::network::{
    Address, AddressState, AdvertisedResolvers, Duplicate, Hostname, Lease, LocalResolver, NodeIps, Resolvers, Route,
};

/// Metric of a route that a DHCP server gave: the same as of one in the config without a metric.
const DHCP_METRIC: u32 = 1024;

/// A snapshot of all that the network depends on.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `None` in maintenance: then every Ethernet link asks for a lease.
    pub config: Option<Arc<Config>>,
    pub kernel: Kernel,
    /// Those of [`links::MODULES`] that are loaded.
    pub modules: BTreeSet<String>,
    pub leases: BTreeMap<String, Lease>,
    /// By link.
    pub advertised: BTreeMap<String, AdvertisedResolvers>,
    /// Addresses that another machine has too, as they were told.
    pub duplicates: BTreeMap<String, Duplicate>,
    /// Links and addresses that the kernel refused a while ago.
    pub due: BTreeSet<(String, IpAddr)>,
    /// Running DHCP clients.
    pub clients: BTreeSet<dhcp::Of>,
    pub machine_id: String,
    /// What stands in the files that this controller writes.
    pub files: BTreeMap<render::File, String>,
    /// As uname(2) has it.
    pub hostname: String,
    pub resolvers: Option<Resolvers>,
    /// The machine's own, while it listens.
    pub local_resolver: Option<LocalResolver>,
    pub name: Option<Hostname>,
    pub node_ips: Option<NodeIps>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    SetLink {
        link: String,
        up: bool,
        mtu: Option<u32>,
    },
    AddAddress(Address),
    RemoveAddress(Address),
    /// Takes it away and sets it anew: the kernel looks at an address once.
    TryAddressAgain(Address),
    TellDuplicate(Told),
    AddRoute(Route),
    RemoveRoute(Route),
    AddRule(RoutingRule),
    RemoveRule(RoutingRule),
    ShapeLinks(Vec<LinkChange>),
    StartDhcp {
        of: dhcp::Of,
        index: u32,
        hardware_address: String,
    },
    StopDhcp(dhcp::Of),
    SetHostname(String),
    WriteFile(render::File, String),
    TellResolvers(Resolvers),
    TellHostname(Hostname),
    TellNodeIps(NodeIps),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let mut actions = Vec::new();
    let interfaces = interfaces(seen);
    let wanted = Wanted::new(&interfaces, seen);
    let links = links::decide(configured(seen), &seen.kernel, &seen.modules);
    actions.extend(link_actions(&interfaces, seen));
    let present = seen.kernel.addresses.iter().map(Address::without_state).collect();
    actions.extend(difference(&wanted.addresses, &present, Action::AddAddress, Action::RemoveAddress, |address| address.owned));
    actions.extend(refused::actions(&wanted, seen));
    actions.extend(difference(&wanted.routes, &seen.kernel.routes, Action::AddRoute, Action::RemoveRoute, |route| route.owned));
    actions.extend(difference(&wanted.rules, &seen.kernel.rules, Action::AddRule, Action::RemoveRule, |rule| rule.owned));
    actions.extend(dhcp_actions(&interfaces, seen));
    actions.extend(name_actions(seen));
    // Last: what goes wrong here holds nothing else up. A member has lost its addresses by then.
    if !links.changes.is_empty() {
        actions.push(Action::ShapeLinks(links.changes));
    }
    if actions.is_empty() && !links.missing.is_empty() { Plan::Waiting(links.missing) } else { Plan::from_actions(actions) }
}

fn configured(seen: &Seen) -> &[Interface] {
    seen.config.as_ref().map(|config| config.machine.network.interfaces.as_slice()).unwrap_or_default()
}

/// The interfaces in the config that are there, each after those that it is made of; where it names none, DHCP on every Ethernet link.
fn interfaces(seen: &Seen) -> Vec<Interface> {
    let configured = configured(seen);
    if !configured.is_empty() {
        // A link of that name that others made is not the one that the config means.
        let meant = |interface: &&Interface| {
            let link = seen.kernel.links.get(&interface.name);
            link.is_some_and(|link| interface.kind().is_none() || link.owned)
        };
        return bottom_up(configured).into_iter().filter(meant).cloned().collect();
    }
    let ethernet = seen.kernel.links.iter().filter(|(_, link)| link.kind == "ethernet");
    let by_dhcp = |(name, _): (&String, &Link)| Interface { name: name.clone(), dhcp: true, ..Interface::default() };
    ethernet.map(by_dhcp).collect()
}

struct Wanted {
    addresses: BTreeSet<Address>,
    routes: BTreeSet<Route>,
    rules: BTreeSet<RoutingRule>,
}

impl Wanted {
    fn new(interfaces: &[Interface], seen: &Seen) -> Wanted {
        let mut wanted = Wanted { addresses: BTreeSet::new(), routes: BTreeSet::new(), rules: rules(seen) };
        for interface in interfaces {
            let link = &interface.name;
            // The kernel drops routes of a link that is down: they are wanted once it is up.
            let up = seen.kernel.links.get(link).is_some_and(|link| link.up);
            let leases: Vec<&Lease> = wanted_leases(interface, seen).filter_map(|of| seen.leases.get(&of.to_string())).collect();
            let addresses = interface.addresses.iter().copied().chain(leases.iter().map(|lease| lease.address));
            let address = |address| Address { link: link.clone(), address, owned: true, state: AddressState::default() };
            wanted.addresses.extend(addresses.map(address));
            if !up {
                continue;
            }
            let route = |to: IpNet, via, metric, table| Route { link: link.clone(), to: to.trunc(), via, metric, table, owned: true };
            wanted.routes.extend(interface.routes.iter().map(|given| route(given.to, given.via, given.metric, given.table)));
            let leased = leases.iter().flat_map(|lease| &lease.routes);
            wanted.routes.extend(leased.map(|given| route(given.to, given.via, DHCP_METRIC, MAIN_TABLE)));
        }
        wanted
    }
}

/// Those of the config. One that somebody else put there just so is not put there again: the kernel would refuse it.
fn rules(seen: &Seen) -> BTreeSet<RoutingRule> {
    let configured = seen.config.iter().flat_map(|config| &config.machine.network.rules);
    let wanted = configured.flat_map(|given| {
        let (from, to) = (rule::narrow(given.from), rule::narrow(given.to));
        let (interface, mark) = (given.interface.clone(), given.mark.unwrap_or(0));
        let mask = given.mask.or(given.mark.map(|_| u32::MAX)).unwrap_or(0);
        let of_family =
            RoutingRule { ipv4: true, priority: given.priority, from, to, interface, mark, mask, table: given.table, owned: true };
        given.families().map(move |ipv4| RoutingRule { ipv4, ..of_family.clone() })
    });
    let is_others = |rule: &RoutingRule| seen.kernel.rules.contains(&RoutingRule { owned: false, ..rule.clone() });
    wanted.filter(|rule| !is_others(rule)).collect()
}

/// Removals of what is ours and not wanted come first, so that an address can move from one link to another.
fn difference<T: Ord + Clone>(
    wanted: &BTreeSet<T>,
    present: &BTreeSet<T>,
    add: fn(T) -> Action,
    remove: fn(T) -> Action,
    ours: fn(&T) -> bool,
) -> Vec<Action> {
    let surplus = present.difference(wanted).filter(|item| ours(item)).cloned().map(remove);
    surplus.chain(wanted.difference(present).cloned().map(add)).collect()
}

/// What is made of others comes after them: a VLAN cannot be up, nor have a larger MTU, before its parent.
fn link_actions(interfaces: &[Interface], seen: &Seen) -> Vec<Action> {
    let mut actions = Vec::new();
    let is_in = |name: &str, master: &str| seen.kernel.links.get(name).is_some_and(|link| link.is_in(master));
    // Parents and members without an item of their own; a member once it is one, since a bond takes no link that is up.
    let below = interfaces.iter().flat_map(|above| above.below().map(move |name| (above, name)));
    let unnamed = below.filter(|(_, name)| !interfaces.iter().any(|interface| interface.name == *name));
    let ready = |(above, name): &(&Interface, &str)| above.vlan.is_some() || is_in(name, &above.name);
    let raised: BTreeSet<&str> = unnamed.filter(ready).map(|(_, name)| name).collect();
    for name in raised {
        if seen.kernel.links.get(name).is_some_and(|link| !link.up) {
            actions.push(Action::SetLink { link: name.to_owned(), up: true, mtu: None });
        }
    }
    let waits_for_bond = |name: &String| {
        let bond = configured(seen).iter().find(|above| above.bond.is_some() && above.members().contains(name));
        bond.is_some_and(|bond| !is_in(name, &bond.name))
    };
    for interface in interfaces.iter().filter(|interface| !waits_for_bond(&interface.name)) {
        let Some(link) = seen.kernel.links.get(&interface.name) else { continue };
        let leased = seen.leases.get(&interface.name).filter(|_| interface.dhcp).and_then(|lease| lease.mtu);
        // 576 is the least that RFC 2132 allows a server to give (68 in theory; such a link carries nothing).
        let mtu = interface.mtu.or(leased.filter(|mtu| *mtu >= 576)).map(u32::from);
        let mtu = mtu.filter(|mtu| *mtu != link.mtu);
        if !link.up || mtu.is_some() {
            actions.push(Action::SetLink { link: interface.name.clone(), up: true, mtu });
        }
    }
    actions
}

/// The DHCP clients that an interface wants: for IPv6, unless its item says whether, where a router on the link says that addresses are given so.
fn wanted_leases(interface: &Interface, seen: &Seen) -> impl Iterator<Item = dhcp::Of> {
    let is_managed = seen.kernel.links.get(&interface.name).is_some_and(|link| link.managed);
    let ipv6 = interface.dhcp6.unwrap_or(interface.dhcp && is_managed);
    let name = interface.name.clone();
    [(interface.dhcp, false), (ipv6, true)]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(move |(_, ipv6)| dhcp::Of { link: name.clone(), ipv6 })
}

fn dhcp_actions(interfaces: &[Interface], seen: &Seen) -> Vec<Action> {
    let wanted: BTreeSet<dhcp::Of> = interfaces.iter().flat_map(|interface| wanted_leases(interface, seen)).collect();
    // A lease without a client was an agent's before.
    let leased: BTreeSet<dhcp::Of> = seen.clients.iter().cloned().chain(seen.leases.keys().map(|name| dhcp::Of::named(name))).collect();
    let mut actions: Vec<Action> = leased.difference(&wanted).cloned().map(Action::StopDhcp).collect();
    for of in wanted.into_iter().filter(|of| !seen.clients.contains(of)) {
        let is_leased = seen.leases.contains_key(&of.to_string());
        match seen.kernel.links.get(&of.link) {
            Some(link) if link.up && (link.carrier || is_leased) && !link.hardware_address.is_empty() => {
                actions.push(Action::StartDhcp { of, index: link.index, hardware_address: link.hardware_address.clone() })
            }
            _ => {}
        }
    }
    actions
}

fn name_actions(seen: &Seen) -> Vec<Action> {
    let mut actions = Vec::new();
    let hostname = hostname(seen);
    let resolvers = resolvers(seen);
    let node_ips = NodeIps { addresses: node_ips(seen) };
    if seen.hostname != hostname.hostname {
        actions.push(Action::SetHostname(hostname.hostname.clone()));
    }
    let pods = seen.config.as_ref().map(|config| config.cluster.network.pod_cidrs.as_slice()).unwrap_or_default();
    let servers = render::NameServers { outside: &resolvers, local: seen.local_resolver.as_ref(), pods };
    for (file, contents) in render::files(&hostname.hostname, servers, &node_ips) {
        if seen.files.get(&file) != Some(&contents) {
            actions.push(Action::WriteFile(file, contents));
        }
    }
    if seen.resolvers.as_ref() != Some(&resolvers) {
        actions.push(Action::TellResolvers(resolvers));
    }
    if seen.name.as_ref() != Some(&hostname) {
        actions.push(Action::TellHostname(hostname));
    }
    if seen.node_ips.as_ref() != Some(&node_ips) {
        actions.push(Action::TellNodeIps(node_ips));
    }
    actions
}

/// The config's name, else one that a DHCP server gave, else one from the machine id, which is the same for the machine's life.
fn hostname(seen: &Seen) -> Hostname {
    let configured = seen.config.as_ref().and_then(|config| config.machine.hostname.clone());
    let leased = seen.leases.values().find_map(|lease| lease.hostname.clone()).filter(|name| is_hostname(name));
    let from_id = || format!("corten-{}", seen.machine_id.get(..8).unwrap_or("unknown"));
    match (configured, leased) {
        (Some(hostname), _) => Hostname { hostname, source: "config".to_owned() },
        (None, Some(hostname)) => Hostname { hostname, source: "dhcp".to_owned() },
        (None, None) => Hostname { hostname: from_id(), source: "machineId".to_owned() },
    }
}

/// Whether a name from the network may become the node's: a DNS subdomain as Kubernetes wants it (RFC 1123).
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        let edges = label.starts_with(|c: char| c.is_ascii_alphanumeric()) && label.ends_with(|c: char| c.is_ascii_alphanumeric());
        edges && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn resolvers(seen: &Seen) -> Resolvers {
    let configured = seen.config.as_ref().map(|config| config.machine.network.nameservers.clone()).unwrap_or_default();
    let mut nameservers = configured;
    if nameservers.is_empty() {
        // Those of routers come last: they say the same as their DHCPv6 servers, or are all that there is.
        let advertised = seen.advertised.values().flat_map(|advertised| &advertised.nameservers);
        for server in seen.leases.values().flat_map(|lease| &lease.nameservers).chain(advertised) {
            if !nameservers.contains(server) {
                nameservers.push(*server);
            }
        }
    }
    Resolvers { nameservers }
}

/// One address for each family of pod networks: in the subnets that the config gives, else on the link of the best default route, else on
/// the first link that leads out.
fn node_ips(seen: &Seen) -> Vec<IpAddr> {
    let Some(config) = &seen.config else { return Vec::new() };
    let subnets = &config.machine.kubelet.node_ip.subnets;
    let mut families: Vec<bool> = config.cluster.network.pod_cidrs.iter().map(|network| network.addr().is_ipv4()).collect();
    families.dedup();
    let is_shared = |ip| config.cluster.virtual_ip == Some(ip) || config.cluster.network.load_balancer.has(ip);
    families.into_iter().filter_map(|ipv4| node_ip(&seen.kernel, subnets, &is_shared, ipv4)).collect()
}

/// Never one that goes to other machines: the virtual IP, and those of Services.
fn node_ip(kernel: &Kernel, subnets: &[IpNet], is_shared: &dyn Fn(IpAddr) -> bool, ipv4: bool) -> Option<IpAddr> {
    let own = |ip: IpAddr| is_global(ip) && !is_shared(ip);
    let of_family = |address: &&Address| address.address.addr().is_ipv4() == ipv4 && own(address.address.addr());
    let mut candidates = kernel.addresses.iter().filter(of_family);
    if !subnets.is_empty() {
        let chosen = candidates.find(|address| subnets.iter().any(|subnet| subnet.contains(&address.address.addr())));
        return chosen.map(|address| address.address.addr());
    }
    let is_default = |route: &&Route| route.table == MAIN_TABLE && route.to.prefix_len() == 0 && route.to.addr().is_ipv4() == ipv4;
    let defaults = kernel.routes.iter().filter(is_default);
    // A machine that reaches nothing beyond its links has no default route, and an address all the same.
    let link = defaults.min_by_key(|route| route.metric).map(|route| &route.link);
    let fits = |address: &&Address| match link {
        Some(link) => address.link == *link,
        None => kernel.links.get(&address.link).is_some_and(Link::leads_out),
    };
    candidates.find(fits).map(|address| address.address.addr())
}

fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
pub mod tests;
