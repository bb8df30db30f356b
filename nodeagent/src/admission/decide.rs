//! Whether a machine gets its certificates, and what is written down of it. Values in, values out.

use std::net::IpAddr;

use ipnet::IpNet;
use machine::config::Role;
use serde::{Deserialize, Serialize};

use super::token::{Token, TokenRecord};
use crate::refusal::Refusal;

/// A machine of the cluster, as the cluster keeps it: what it proved when it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    /// Always 1.
    pub version: u32,
    /// Name of the Kubernetes node.
    pub node: String,
    pub role: Role,
    /// SHA-256 of its public key, in hexadecimal.
    pub key: String,
    pub addresses: Vec<IpAddr>,
    /// The token that it showed first; empty for the control plane that made the cluster.
    pub token: String,
    /// Seconds since the epoch.
    pub joined_at: u64,
    /// It gets nothing any more.
    #[serde(default)]
    pub revoked: bool,
}

/// What a machine asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub node: String,
    pub role: Role,
    pub addresses: Vec<IpAddr>,
    /// Where the call came from.
    pub from: IpAddr,
    /// Of the key in its request, which it has proved to hold.
    pub key: String,
    pub credential: Credential,
    /// It proved to hold what only control planes' configs do.
    pub proved_control_plane: bool,
}

#[derive(Debug, Clone)]
pub enum Credential {
    Token(Option<Token>),
    /// The connection's client certificate: the node's name and the key's id.
    Certificate {
        node: String,
        key: String,
    },
}

/// What the cluster knows.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The record of the token with the shown id.
    pub token: Option<TokenRecord>,
    pub machines: Vec<MachineRecord>,
    /// Kubernetes' Nodes: name and addresses.
    pub nodes: Vec<(String, Vec<IpAddr>)>,
    /// Of pods and Services: no machine has an address there.
    pub networks: Vec<IpNet>,
    /// Seconds since the epoch.
    pub now: u64,
}

/// The record to write, and those of others that lose an address to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub machine: MachineRecord,
    pub changed: Vec<MachineRecord>,
}

pub fn decide(asked: &Asked, known: &Known) -> Result<Grant, Refusal> {
    let record = known.machines.iter().find(|machine| machine.node == asked.node);
    let token = credential(asked, known, record)?;
    name(asked, known, record, token)?;
    addresses(asked, known)?;
    let joined = record.filter(|record| record.key == asked.key);
    let machine = MachineRecord {
        version: 1,
        node: asked.node.clone(),
        role: asked.role,
        key: asked.key.clone(),
        addresses: asked.addresses.clone(),
        token: token.map(|token| token.id.clone()).or_else(|| joined.map(|record| record.token.clone())).unwrap_or_default(),
        joined_at: joined.map_or(known.now, |record| record.joined_at),
        revoked: false,
    };
    let others = known.machines.iter().filter(|other| other.node != asked.node && other.addresses.contains(&asked.from));
    let without = |other: &MachineRecord| MachineRecord {
        addresses: other.addresses.iter().copied().filter(|ip| *ip != asked.from).collect(),
        ..other.clone()
    };
    Ok(Grant { machine, changed: others.map(without).collect() })
}

/// The token that counts; none for a machine that shows its certificate.
fn credential<'a>(asked: &Asked, known: &'a Known, record: Option<&MachineRecord>) -> Result<Option<&'a TokenRecord>, Refusal> {
    let refused = |reason, problem: String, remedy: &str| Err(Refusal::state(reason, problem, remedy));
    match &asked.credential {
        Credential::Certificate { node, key } => match record {
            Some(record) if record.revoked => revoked(asked),
            Some(record) if *node == asked.node && record.key == *key && asked.key == *key && record.role == asked.role => Ok(None),
            _ => {
                let problem = format!("the certificate of machine {node} is not the one that the cluster has down for {}", asked.node);
                refused("OTHER_MACHINE", problem, "join again with a token")
            }
        },
        Credential::Token(shown) => {
            let token = good_token(asked, shown.as_ref(), known)?;
            if record.is_some_and(|record| record.revoked && record.key == asked.key) {
                return revoked(asked);
            }
            Ok(Some(token))
        }
    }
}

/// By the token alone, which costs the cluster little to look at: whether it is worth looking at the rest.
pub fn token_counts(asked: &Asked, token: Option<&TokenRecord>, now: u64) -> Result<(), Refusal> {
    let known = Known { token: token.cloned(), now, ..Known::default() };
    match &asked.credential {
        Credential::Certificate { .. } => Ok(()),
        Credential::Token(shown) => good_token(asked, shown.as_ref(), &known).map(drop),
    }
}

fn good_token<'a>(asked: &Asked, shown: Option<&Token>, known: &'a Known) -> Result<&'a TokenRecord, Refusal> {
    let refused = |reason, problem: String, remedy: &str| Err(Refusal::state(reason, problem, remedy));
    let fresh = "put a token of machinectl token create into cluster.joinToken";
    let found = shown.and_then(|shown| known.token.as_ref().filter(|record| record.id == shown.id && record.hash == shown.hash()));
    let Some(token) = found else { return refused("TOKEN_UNKNOWN", "the join token is wrong".to_owned(), fresh) };
    if token.revoked {
        return refused("TOKEN_REVOKED", format!("the join token {} is revoked", token.id), fresh);
    }
    if let Some(expired) = token.expires.filter(|expires| *expires <= known.now) {
        let since = known.now - expired;
        return refused("TOKEN_EXPIRED", format!("the join token {} expired {since} seconds ago", token.id), fresh);
    }
    if token.role != Some(asked.role) && !(token.role.is_none() && (asked.role == Role::Worker || asked.proved_control_plane)) {
        let remedy =
            "make one for the role: machinectl token create --role; a control plane's config also needs the cluster's encryptionKey";
        return refused("TOKEN_ROLE", format!("the join token {} is not for a {}", token.id, words(asked.role)), remedy);
    }
    if let Some(node) = token.node.as_ref().filter(|node| **node != asked.node) {
        return refused("TOKEN_NODE", format!("the join token {} is for node {node}, not for {}", token.id, asked.node), fresh);
    }
    Ok(token)
}

fn revoked<T>(asked: &Asked) -> Result<T, Refusal> {
    let remedy = "reset the machine, and join it again with a token that is made for it: machinectl token create --node";
    Err(Refusal::state("MACHINE_REVOKED", format!("machine {} is revoked", asked.node), remedy))
}

fn words(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "control plane",
        Role::Worker => "worker",
    }
}

/// The name is free, or this machine's already; or somebody made a token for just this node.
fn name(asked: &Asked, known: &Known, record: Option<&MachineRecord>, token: Option<&TokenRecord>) -> Result<(), Refusal> {
    let own = record.is_some_and(|record| record.key == asked.key && record.role == asked.role);
    let meant = token.is_some_and(|token| token.node.is_some()) && record.is_none_or(|record| record.role == asked.role);
    let free = record.is_none() && known.nodes.iter().all(|(name, _)| *name != asked.node);
    if own || meant || free {
        return Ok(());
    }
    let problem = format!("another machine of the cluster is called {}", asked.node);
    let remedy = format!("set machine.hostname; or, if this machine takes its place: machinectl token create --node {}", asked.node);
    Err(Refusal::state("NAME_TAKEN", problem, remedy))
}

/// One address a family. That of the call is proved; another family's has to be nobody else's.
fn addresses(asked: &Asked, known: &Known) -> Result<(), Refusal> {
    let wrong = |reason, problem: String| {
        Err(Refusal::state(reason, problem, "see machine.kubelet.nodeIP and machine.network: each machine needs an address of its own"))
    };
    if !asked.addresses.contains(&asked.from) {
        let listed: Vec<String> = asked.addresses.iter().map(IpAddr::to_string).collect();
        let problem = format!("the call came from {}, which is none of the node's addresses {}", asked.from, listed.join(", "));
        return wrong("ADDRESS_NOT_PROVED", problem);
    }
    for address in &asked.addresses {
        let same_family = asked.addresses.iter().filter(|other| other.is_ipv4() == address.is_ipv4()).count();
        let unfit = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        if same_family > 1 || unfit || known.networks.iter().any(|network| network.contains(address)) {
            return wrong(
                "ADDRESS_UNFIT",
                format!("{address} cannot be a node's address: expected one a family, outside the networks of pods and Services"),
            );
        }
        let mut holders = known.machines.iter().filter(|machine| machine.node != asked.node && machine.addresses.contains(address));
        let proved = *address == asked.from;
        let of_node = known.nodes.iter().any(|(name, held)| *name != asked.node && held.contains(address));
        if holders.any(|holder| !proved || holder.role == Role::ControlPlane) || (of_node && !proved) {
            return wrong("ADDRESS_TAKEN", format!("{address} is another machine's"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
