//! Which Node announces a Service's addresses.
//!
//! The one that does stays for as long as it can: connections through it would break with each move. Otherwise the one of those that can whose
//! hash with the Service is the highest (rendezvous hashing): Services spread over all nodes, and a node that goes moves those alone that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::service::Service;
use crate::resources::overlay::ClusterNode;

/// Nodes with this label take no packets from outside (well-known label of Kubernetes).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What the choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct Nodes<'a> {
    pub all: &'a BTreeMap<String, ClusterNode>,
    /// Whether a node's agent answers; nothing is known yet of those that are not named.
    pub answering: &'a BTreeMap<String, bool>,
}

/// The Node for it. `endpoints` are those with an endpoint of its own, which count where it is `local`; before they are known, nothing moves.
pub fn choose(service: &Service, addresses: &[IpAddr], nodes: Nodes<'_>, endpoints: Option<&BTreeSet<String>>) -> Option<String> {
    if service.local && endpoints.is_none() {
        return service.announcer.clone();
    }
    let able = |name: &String, node: &ClusterNode| {
        let on_its_link = addresses.iter().all(|address| node.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()));
        on_its_link
            && !node.labels.contains_key(EXCLUDED)
            && (!service.local || endpoints.is_some_and(|endpoints| endpoints.contains(name)))
    };
    let able: BTreeMap<&String, &ClusterNode> = nodes.all.iter().filter(|(name, node)| able(name, node)).collect();
    let current = service.announcer.as_ref().filter(|name| able.contains_key(name));
    let goes_on = |name: &&String| able[*name].ready && nodes.answering.get(*name) != Some(&false);
    if let Some(current) = current.filter(goes_on) {
        return Some(current.clone());
    }
    let fit = able.iter().filter(|(name, node)| node.ready && nodes.answering.get(**name) == Some(&true)).map(|(name, _)| *name);
    // Where nobody else can, the one that did may still be heard by its neighbours.
    fit.max_by_key(|name| weight(&service.uid, name)).or(current).cloned()
}

fn weight(service: &str, node: &str) -> [u8; 32] {
    Sha256::new().chain_update(service).chain_update([0_u8]).chain_update(node).finalize().into()
}
