//! The kernel's table of connections, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h): all are looked at, and some are forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::time::timeout;

use super::table::Flow;

/// The kernel answers at once, and a quarter of a million connections in less than a second.
const DEADLINE: Duration = Duration::from_secs(10);

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;

/// The header of a netlink message, and the one of nfnetlink after it.
const HEADER: usize = 16;
const NFNETLINK_HEADER: usize = 4;

/// A connection, and how to have the kernel forget it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    flow: Flow,
    family: u8,
    /// Attributes that name it, as the kernel wrote them.
    named_by: Vec<u8>,
}

/// Has the kernel forget all connections that are forbidden; how many those were. Of a connection whose addresses were translated, the ends
/// count that packets have when they are forwarded: who began it, and who answers.
pub async fn forget(forbidden: impl Fn(Flow) -> bool) -> anyhow::Result<usize> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER).context("opening a netlink socket")?;
    let found = timeout(DEADLINE, list(&mut socket, forbidden)).await.context("waiting for the kernel's connections")??;
    for connection in &found {
        timeout(DEADLINE, delete(&mut socket, connection)).await.context("waiting for the kernel's answer")??;
    }
    Ok(found.len())
}

async fn list(socket: &mut TokioSocket, wanted: impl Fn(Flow) -> bool) -> anyhow::Result<Vec<Connection>> {
    send(socket, GET, NLM_F_REQUEST | NLM_F_DUMP, 0, &[]).await?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await.context("reading connections")?;
        for message in messages(&datagram) {
            let message = message?;
            match message.message_type() {
                NEW => found.extend(connection(message.payload()).filter(|connection| wanted(connection.flow))),
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => answer(message.payload()).context("listing connections")?,
                _ => {}
            }
        }
    }
}

/// One that has ended in between is done.
async fn delete(socket: &mut TokioSocket, connection: &Connection) -> anyhow::Result<()> {
    send(socket, DELETE, NLM_F_REQUEST | NLM_F_ACK, connection.family, &connection.named_by).await?;
    loop {
        let (datagram, _) = socket.recv_from_full().await.context("reading the kernel's answer")?;
        for message in messages(&datagram) {
            let message = message?;
            if message.message_type() == NLMSG_ERROR {
                return match answer(message.payload()) {
                    Err(Errno::ENOENT) => Ok(()),
                    answer => answer.with_context(|| format!("forgetting connection {:?}", connection.flow)),
                };
            }
        }
    }
}

async fn send(socket: &mut TokioSocket, message_type: u16, flags: u16, family: u8, attributes: &[u8]) -> anyhow::Result<()> {
    let mut bytes = vec![0; HEADER + NFNETLINK_HEADER];
    bytes[HEADER] = family;
    bytes.extend_from_slice(attributes);
    let length = u32::try_from(bytes.len())?;
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(length);
    header.set_message_type(message_type);
    header.set_flags(flags);
    socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.context("asking the kernel for connections")?;
    Ok(())
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = anyhow::Result<NetlinkBuffer<&[u8]>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest).context("reading the kernel's answer");
        let length = message.as_ref().map_or(rest.len(), |message| message.length() as usize).next_multiple_of(4);
        rest = rest.get(length.max(HEADER)..).unwrap_or_default();
        Some(message)
    })
}

/// Of a message of an error, which says that all is well with number 0.
fn answer(payload: &[u8]) -> Result<(), Errno> {
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.wrapping_neg())) }
}

/// None of what is not understood: the kernel wrote it for somebody else.
fn connection(payload: &[u8]) -> Option<Connection> {
    let (family, attributes) = (*payload.first()?, payload.get(NFNETLINK_HEADER..)?);
    let (mut from, mut reply) = (None, None);
    let mut named_by = Vec::new();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            CTA_TUPLE_ORIG => from = Some(tuple(attribute.value())?),
            CTA_TUPLE_REPLY => reply = Some(tuple(attribute.value())?),
            _ => {}
        }
        if [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].contains(&attribute.kind()) {
            let length = usize::from(attribute.length());
            named_by.extend_from_slice(attribute.into_inner().get(..length)?);
            named_by.resize(named_by.len().next_multiple_of(4), 0);
        }
    }
    let (from, reply) = (from?, reply?);
    Some(Connection { flow: Flow { from: from.source, to: reply.source, protocol: from.protocol, port: reply.port }, family, named_by })
}

struct Tuple {
    source: IpAddr,
    protocol: u8,
    /// Of the source; 0 with protocols that have none.
    port: u16,
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let (mut source, mut protocol, mut port) = (None, None, 0);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        for inner in NlasIterator::new(attribute.value()) {
            let inner = inner.ok()?;
            match (attribute.kind(), inner.kind()) {
                // CTA_IP_V4_SRC and CTA_IP_V6_SRC; the destinations are even.
                (CTA_TUPLE_IP, 1) => source = Some(Ipv4Addr::from(*inner.value().first_chunk::<4>()?).into()),
                (CTA_TUPLE_IP, 3) => source = Some(Ipv6Addr::from(*inner.value().first_chunk::<16>()?).into()),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = inner.value().first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => port = u16::from_be_bytes(*inner.value().first_chunk()?),
                _ => {}
            }
        }
    }
    Some(Tuple { source: source?, protocol: protocol?, port })
}
