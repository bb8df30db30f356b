//! Which addresses this machine announces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::controllers::load_balancer::service::Services;
use crate::controllers::machine::Machine;
use crate::controllers::shared_address::Place;
use crate::plan::{Missing, Plan};
use crate::resources::load_balancer::{AddressState, LoadBalancerAddress};

#[derive(Debug, Clone)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// None before all were listed: what the kernel has of an agent before this one stays until then.
    pub services: Option<Arc<Services>>,
    /// Where the addresses below belong, and those of the pools that Services have.
    pub places: BTreeMap<IpAddr, Place>,
    /// Those of the pools that the kernel has, by themselves, as this controller puts them there.
    pub there: BTreeSet<IpAddr>,
    pub held: BTreeSet<IpAddr>,
    pub renewal_due: bool,
    pub told: BTreeMap<String, LoadBalancerAddress>,
}

impl Seen {
    pub fn without_pools(machine: Result<Machine, Vec<Missing>>) -> Seen {
        let (there, held) = (BTreeSet::new(), BTreeSet::new());
        Seen { machine, services: None, places: BTreeMap::new(), there, held, renewal_due: false, told: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Has the kernel keep it for another while.
    Hold(IpAddr, Place),
    Remove(IpAddr, Place),
    /// All that are held were.
    Renewed,
    /// These are all that there are.
    Tell(BTreeMap<String, LoadBalancerAddress>),
}

pub fn plan(seen: &Seen) -> Plan<Vec<Action>> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let pools = &machine.config.cluster.network.load_balancer;
    let none = Arc::default();
    let services = match &seen.services {
        _ if pools.pools.is_empty() => &none,
        Some(services) => services,
        None => return Plan::Waiting(vec![Missing::new("Services of the cluster")]),
    };
    let mut wanted = BTreeMap::new();
    let mut tell = BTreeMap::new();
    // Whoever may write Services writes these: nothing but an address of the pools is announced.
    let ours = services.iter().filter(|(_, service)| service.written_by.is_none());
    let addresses = ours.flat_map(|(key, service)| service.addresses.iter().map(move |address| (*address, key, service)));
    for (address, key, service) in addresses.filter(|(address, ..)| pools.has(*address) && !machine.facts.node_ips.contains(address)) {
        let place = seen.places.get(&address).cloned().unwrap_or_default();
        let node = service.announcer.clone().unwrap_or_default();
        let here = node == machine.facts.node_name;
        let state = match (node.is_empty(), here, place.link.is_empty()) {
            (true, ..) => AddressState::Nobody,
            (_, false, _) => AddressState::Elsewhere,
            (_, true, true) => AddressState::NoLink,
            (_, true, false) => AddressState::Announced,
        };
        let link = if state == AddressState::Announced { place.link.clone() } else { String::new() };
        tell.entry(address.to_string()).or_insert(LoadBalancerAddress { service: key.to_string(), node, state, link });
        if state == AddressState::Announced {
            wanted.insert(address, place);
        }
    }
    let mut actions = Vec::new();
    let unwanted: BTreeSet<&IpAddr> = seen.there.union(&seen.held).filter(|address| !wanted.contains_key(address)).collect();
    actions.extend(unwanted.into_iter().map(|address| Action::Remove(*address, seen.places.get(address).cloned().unwrap_or_default())));
    let due = |address: &IpAddr, place: &Place| seen.renewal_due || !place.present || !seen.held.contains(address);
    actions
        .extend(wanted.iter().filter(|(address, place)| due(address, place)).map(|(address, place)| Action::Hold(*address, place.clone())));
    actions.extend((seen.renewal_due && !wanted.is_empty()).then_some(Action::Renewed));
    if tell != seen.told {
        actions.push(Action::Tell(tell));
    }
    if actions.is_empty() { Plan::Settled } else { Plan::Act(vec![actions]) }
}
