//! Which Service has which addresses of the pools. Their own status is the record: what a Service has, it keeps for as long as it may have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use machine::config::LoadBalancer;

use super::service::{Asks, CLASS, Key, Service, Services};

/// What a Service of ours should have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// In the order of its families.
    pub addresses: Vec<IpAddr>,
    /// What it lacks, and why; empty where it lacks nothing.
    pub problem: String,
}

/// Whether a Service is served here. Where a cloud's controller is to be, those of no class are that one's.
pub fn is_ours(service: &Service, with_cloud: bool) -> bool {
    match service.class.as_deref() {
        Some(class) => class == CLASS,
        None => !with_cloud,
    }
}

/// The shares of all Services of ours. `nodes` are addresses that machines have.
pub fn allocate(pools: &LoadBalancer, nodes: &BTreeSet<IpAddr>, services: &Services, with_cloud: bool) -> BTreeMap<Key, Share> {
    let (ours, others): (Vec<_>, Vec<_>) =
        services.iter().partition(|(_, service)| is_ours(service, with_cloud) && service.written_by.is_none());
    let mut taken = nodes.clone();
    taken.extend(others.iter().flat_map(|(_, service)| &service.addresses));
    let mut oldest_first = ours;
    oldest_first.sort_by_key(|(key, service)| (&service.created_at, *key));

    let mut shares: BTreeMap<Key, Share> = BTreeMap::new();
    for (key, service) in &oldest_first {
        let kept = kept(pools, service, &taken);
        taken.extend(&kept);
        shares.insert((*key).clone(), Share { addresses: kept, problem: String::new() });
    }
    // Who asks for an address comes before who takes any.
    let (asking, any): (Vec<_>, Vec<_>) = oldest_first.into_iter().partition(|(_, service)| service.asks_for != Asks::Nothing);
    for (key, service) in asking.into_iter().chain(any) {
        let share = shares.entry(key.clone()).or_default();
        complete(pools, service, share, &mut taken);
    }
    for (key, service) in others.into_iter().filter(|(_, service)| is_ours(service, with_cloud)) {
        let writer = service.written_by.as_deref().unwrap_or_default();
        let problem = format!("its status has addresses of {writer}: it is left alone");
        shares.insert(key.clone(), Share { addresses: service.addresses.clone(), problem });
    }
    shares
}

/// Of what it has, what it may keep: an address of the pools that no older one has, one of each of its families, and none but what it asks for.
fn kept(pools: &LoadBalancer, service: &Service, taken: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    if matches!(service.asks_for, Asks::Unreadable(_)) {
        return Vec::new();
    }
    let may_have = |address: &&IpAddr| {
        let asked = service.asks_for.of_family(address.is_ipv4());
        pools.has(**address) && !taken.contains(*address) && asked.is_none_or(|asked| asked == **address)
    };
    let of = |ipv4: &bool| service.addresses.iter().filter(may_have).find(|address| address.is_ipv4() == *ipv4).copied();
    service.families.iter().filter_map(of).collect()
}

/// Gives it what it lacks, or says why it cannot have it.
fn complete(pools: &LoadBalancer, service: &Service, share: &mut Share, taken: &mut BTreeSet<IpAddr>) {
    if let Asks::Unreadable(problem) = &service.asks_for {
        share.problem = problem.clone();
        return;
    }
    let other_family = |ipv4: &bool| !service.families.contains(ipv4);
    let in_vain = [true, false].into_iter().filter(other_family).filter_map(|ipv4| service.asks_for.of_family(ipv4));
    let mut problems: Vec<String> =
        in_vain.map(|address| format!("{address} is asked for, and the Service has no {}", family(address.is_ipv4()))).collect();
    let mut addresses = Vec::new();
    for ipv4 in &service.families {
        let kept = share.addresses.iter().find(|address| address.is_ipv4() == *ipv4);
        let found = match (kept, service.asks_for.of_family(*ipv4)) {
            (Some(kept), _) => Ok(*kept),
            (None, Some(wanted)) if !pools.has(wanted) => {
                Err(format!("{wanted} is asked for, and is in no pool of cluster.network.loadBalancer"))
            }
            (None, Some(wanted)) if taken.contains(&wanted) => Err(format!("{wanted} is asked for, and is taken")),
            (None, Some(wanted)) => Ok(wanted),
            (None, None) => any(pools, *ipv4, taken),
        };
        match found {
            Ok(address) => {
                taken.insert(address);
                addresses.push(address);
            }
            Err(problem) => problems.push(problem),
        }
    }
    // A Service of two families is served in the one that there are pools of.
    if !addresses.is_empty() {
        problems.retain(|problem| !service.families.iter().any(|ipv4| *problem == no_pool(*ipv4)));
    }
    *share = Share { addresses, problem: problems.join("; ") };
}

fn any(pools: &LoadBalancer, ipv4: bool, taken: &BTreeSet<IpAddr>) -> Result<IpAddr, String> {
    let mut ranges = pools.ranges().filter(|range| range.is_ipv4() == ipv4).peekable();
    if ranges.peek().is_none() {
        return Err(no_pool(ipv4));
    }
    let free = ranges.find_map(|range| range.lowest_free(taken));
    free.ok_or_else(|| format!("no {} address of the pools is free: add some to cluster.network.loadBalancer", family(ipv4)))
}

fn no_pool(ipv4: bool) -> String {
    format!("no pool of cluster.network.loadBalancer has {} addresses", family(ipv4))
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}
