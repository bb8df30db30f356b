//! The table of nftables as values: what the kernel is to decide by, and what it decides of one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::cluster::Protocol;

/// A set or a chain. It is made from what the thing is for, by its digest: nothing that users write stands in it.
pub type Name = Arc<str>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Where this machine's pods have their addresses from.
    pub pod_networks: Vec<IpNet>,
    pub sets: BTreeMap<Name, Set>,
    pub chains: BTreeMap<Name, Chain>,
    /// This machine's pods that policies are about, and the chain of what each may receive.
    pub ingress: BTreeMap<IpAddr, Name>,
    /// And of what it may send.
    pub egress: BTreeMap<IpAddr, Name>,
    /// This machine's pods. An address of its pod networks that is not among them is a pod's of which is not known yet what it may do.
    pub known: BTreeSet<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub ipv6: bool,
    pub elements: Elements,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    Addresses(BTreeSet<IpAddr>),
    /// Apart from each other. They are the set's name, as it were, and never change.
    Networks(Vec<IpNet>),
    /// Ports at addresses.
    Ports(BTreeSet<(IpAddr, Protocol, u16)>),
}

/// Who may connect: whatever one of them matches; nobody else. Its name is its contents' digest, so that it never changes either.
pub type Chain = BTreeSet<Match>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The other end is in this set; none: anywhere.
    pub peers: Option<Name>,
    pub ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    Any,
    /// All of a protocol.
    All(Protocol),
    /// From and to, both among them, apart from each other.
    Ranges(Protocol, Vec<(u16, u16)>),
    /// A set of ports at addresses, which the connection's destination has to be in.
    At(Name),
}

/// What a connection looks like at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub from: IpAddr,
    pub to: IpAddr,
    /// As IP has it.
    pub protocol: u8,
    /// Of the destination; 0 with protocols that have none.
    pub port: u16,
}

impl Table {
    /// Whether the kernel, with this table, lets a connection be made through this machine.
    pub fn allows(&self, flow: Flow) -> bool {
        let unknown =
            |address: IpAddr| !self.known.contains(&address) && self.pod_networks.iter().any(|network| network.contains(&address));
        let passes = |chain: Option<&Name>, peer| chain.is_none_or(|name| self.passes(name, peer, flow));
        flow.from == flow.to && self.known.contains(&flow.from)
            || !unknown(flow.from)
                && !unknown(flow.to)
                && passes(self.egress.get(&flow.from), flow.to)
                && passes(self.ingress.get(&flow.to), flow.from)
    }

    fn passes(&self, chain: &str, peer: IpAddr, flow: Flow) -> bool {
        let Some(chain) = self.chains.get(chain) else { return false };
        chain.iter().any(|one| {
            one.peers.as_ref().is_none_or(|set| self.is_in(set, peer))
                && match &one.ports {
                    Ports::Any => true,
                    Ports::All(protocol) => protocol.number() == flow.protocol,
                    Ports::Ranges(protocol, ranges) => {
                        protocol.number() == flow.protocol && ranges.iter().any(|(from, to)| (*from..=*to).contains(&flow.port))
                    }
                    Ports::At(set) => self.is_port_in(set, flow),
                }
        })
    }

    fn is_in(&self, set: &str, address: IpAddr) -> bool {
        match self.sets.get(set).map(|set| &set.elements) {
            Some(Elements::Addresses(addresses)) => addresses.contains(&address),
            Some(Elements::Networks(networks)) => networks.iter().any(|network| network.contains(&address)),
            Some(Elements::Ports(_)) | None => false,
        }
    }

    fn is_port_in(&self, set: &str, flow: Flow) -> bool {
        let Some(Elements::Ports(ports)) = self.sets.get(set).map(|set| &set.elements) else { return false };
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == flow.protocol);
        protocol.is_some_and(|protocol| ports.contains(&(flow.to, protocol, flow.port)))
    }

    /// Pods that policies are about.
    pub fn isolated(&self) -> BTreeSet<IpAddr> {
        self.ingress.keys().chain(self.egress.keys()).copied().collect()
    }

    /// Whether a connection may be allowed by `before` that is not allowed by this one. Of a pod that is isolated anew, or otherwise, it
    /// is; pods that come to what sets speak of, and ports that do, forbid nothing.
    pub fn may_forbid_more_than(&self, before: &Table) -> bool {
        let changed = |is: &BTreeMap<IpAddr, Name>, was: &BTreeMap<IpAddr, Name>| is.iter().any(|(pod, chain)| was.get(pod) != Some(chain));
        let less = |(name, was): (&Name, &Set)| {
            self.sets.get(name).is_some_and(|is| match (&is.elements, &was.elements) {
                (Elements::Addresses(is), Elements::Addresses(was)) => !was.is_subset(is),
                (Elements::Ports(is), Elements::Ports(was)) => !was.is_subset(is),
                _ => false,
            })
        };
        self.pod_networks != before.pod_networks
            || changed(&self.ingress, &before.ingress)
            || changed(&self.egress, &before.egress)
            || !before.known.is_subset(&self.known)
            || before.sets.iter().any(less)
    }
}
