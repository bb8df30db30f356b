//! The kernel's WireGuard devices, by generic netlink: their key, their port and their peers. A private key is made here, given to the
//! kernel, and kept nowhere else: it lives as long as the device, and no disk or log ever has it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use ring::rand::{SecureRandom, SystemRandom};

use super::batch;
use super::message::Message;
use super::state::{Entry, Is, Operation, Present, Secure, Tables, Verb};
use crate::resources::public_key::PublicKey;

type Netlink = GenlMessage<WireguardMessage>;

/// What a device needs before it takes peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// UDP.
    pub port: u16,
    pub key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// One that nobody else has.
    Make,
    Keep,
}

/// Reads a device's key, port and peers.
pub async fn read(name: &'static str, present: &mut Present, tables: &mut Tables) -> anyhow::Result<()> {
    let reading = || format!("reading link {name}");
    let payload = WireguardMessage { cmd: WireguardCmd::GetDevice, attributes: vec![WireguardAttribute::IfName(name.to_owned())] };
    let question = netlink(payload, family(WIREGUARD).await?, NLM_F_DUMP);
    let parts = batch::ask(NETLINK_GENERIC, question).await.with_context(reading)?.with_context(reading)?;
    take(name, parts.into_iter().flat_map(|part| part.payload.attributes), present, tables);
    Ok(())
}

/// A peer with many networks comes in several parts, each with its key.
fn take(name: &'static str, attributes: impl Iterator<Item = WireguardAttribute>, present: &mut Present, tables: &mut Tables) {
    for attribute in attributes {
        match attribute {
            WireguardAttribute::PublicKey(key) => present.is = Is::Wireguard { public_key: Some(PublicKey(key)) },
            WireguardAttribute::ListenPort(port) => present.port = port,
            WireguardAttribute::Peers(peers) => {
                for (key, part) in peers.iter().filter_map(peer) {
                    let whole = tables.secures.entry((name, key)).or_insert(Secure { endpoint: None, pods: BTreeSet::new() });
                    whole.endpoint = part.endpoint.or(whole.endpoint);
                    whole.pods.extend(part.pods);
                }
            }
            _ => {}
        }
    }
}

fn peer(peer: &WireguardPeer) -> Option<(PublicKey, Secure)> {
    let (mut key, mut secure) = (None, Secure { endpoint: None, pods: BTreeSet::new() });
    for attribute in &peer.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => key = Some(PublicKey(*bytes)),
            WireguardPeerAttribute::Endpoint(endpoint) => secure.endpoint = Some(*endpoint),
            WireguardPeerAttribute::AllowedIps(allowed) => secure.pods.extend(allowed.iter().filter_map(network)),
            _ => {}
        }
    }
    Some((key?, secure))
}

fn network(allowed: &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for attribute in &allowed.0 {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(ip) => address = Some(*ip),
            WireguardAllowedIpAttr::Cidr(bits) => length = Some(*bits),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

/// Gives a device its port, and a key where it is to have a new one.
pub async fn set(name: &'static str, tunnel: Tunnel) -> anyhow::Result<()> {
    let mut attributes = vec![WireguardAttribute::IfName(name.to_owned()), WireguardAttribute::ListenPort(tunnel.port)];
    if tunnel.key == Key::Make {
        let mut key = [0; 32];
        // The kernel clears and sets the bits that a key of Curve25519 has to have so.
        SystemRandom::new().fill(&mut key).ok().context("getting random bytes for a key")?;
        attributes.push(WireguardAttribute::PrivateKey(key));
    }
    let payload = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
    let message =
        Message { netlink: netlink(payload, family(WIREGUARD).await?, 0), what: format!("setting port and key of link {name}"), fine: &[] };
    batch::send(vec![message]).await
}

/// Changes peers, many in one send.
pub async fn program(operations: &[Operation]) -> anyhow::Result<()> {
    let family = family(WIREGUARD).await?;
    batch::send(operations.iter().filter_map(|operation| message(operation, family)).collect()).await
}

/// None for what is no matter of WireGuard's.
fn message(Operation { verb, entry }: &Operation, family: u16) -> Option<Message<Netlink>> {
    let Entry::Secure { device, public_key, peer } = entry else { return None };
    let key = WireguardPeerAttribute::PublicKey(public_key.0);
    let attributes = match verb {
        Verb::Remove => vec![key, WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe)],
        Verb::Add | Verb::Replace => {
            let mut attributes = vec![key, WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps)];
            attributes.extend(peer.endpoint.map(WireguardPeerAttribute::Endpoint));
            attributes.push(WireguardPeerAttribute::AllowedIps(peer.pods.iter().map(allowed).collect()));
            attributes
        }
    };
    let attributes = vec![WireguardAttribute::IfName((*device).to_owned()), WireguardAttribute::Peers(vec![WireguardPeer(attributes)])];
    let payload = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
    Some(Message { netlink: netlink(payload, family, 0), what: format!("{} peer {public_key} on {device}", verb.doing()), fine: &[] })
}

fn allowed(network: &IpNet) -> WireguardAllowedIp {
    let family = match network.addr() {
        IpAddr::V4(_) => WireguardAddressFamily::Ipv4,
        IpAddr::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(network.addr()),
        WireguardAllowedIpAttr::Cidr(network.prefix_len()),
    ])
}

fn netlink(payload: WireguardMessage, family: u16, flags: u16) -> NetlinkMessage<Netlink> {
    let mut message = GenlMessage::from_payload(payload);
    message.set_resolved_family_id(family);
    let mut netlink = NetlinkMessage::from(message);
    netlink.header.flags = NLM_F_REQUEST | flags;
    netlink
}

const WIREGUARD: &str = "wireguard";

/// The number that the kernel gave to a family of generic netlink when its module came.
async fn family(name: &str) -> anyhow::Result<u16> {
    let payload = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())] };
    let mut question = NetlinkMessage::from(GenlMessage::from_payload(payload));
    question.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let asking = || format!("asking the kernel for {name} (is its module loaded?)");
    let parts = batch::ask(NETLINK_GENERIC, question).await.with_context(asking)?.with_context(asking)?;
    let number = parts.iter().flat_map(|part| &part.payload.nlas).find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(number) => Some(*number),
        _ => None,
    });
    number.with_context(asking)
}

#[cfg(test)]
mod tests;
