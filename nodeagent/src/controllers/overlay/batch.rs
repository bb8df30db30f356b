//! Many netlink messages in one send. The kernel works through them in their order, before the send returns, and one that fails does not
//! keep it from the next; it answers only those that ask for it or fail.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use netlink_packet_core::{NLM_F_ACK, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable};
use netlink_packet_generic::GenlMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_wireguard::WireguardMessage;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::time::timeout;

use super::message::Message;

/// Messages of one send: if all failed, their answers must fit into the socket's receive buffer (some 200 KiB, of which each takes 0.8).
pub const MOST: usize = 128;
/// The kernel answers at once; one that is out of memory does not.
const DEADLINE: Duration = Duration::from_secs(10);

/// What one of the kernel's parts is spoken to in.
pub trait Protocol: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug {
    const NUMBER: isize;
}

impl Protocol for RouteNetlinkMessage {
    const NUMBER: isize = NETLINK_ROUTE;
}

impl Protocol for GenlMessage<WireguardMessage> {
    const NUMBER: isize = NETLINK_GENERIC;
}

/// Sends all of them; an error names each that failed.
pub async fn send<P: Protocol>(mut messages: Vec<Message<P>>) -> anyhow::Result<()> {
    let mut socket = TokioSocket::new(P::NUMBER).context("opening a netlink socket")?;
    let mut failures = Vec::new();
    for batch in messages.chunks_mut(MOST) {
        let sent = timeout(DEADLINE, send_batch(&mut socket, batch)).await.context("waiting for the kernel's answer")??;
        failures.extend(sent);
    }
    match failures.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        [first, others @ ..] => bail!("{first}; and {} more like it", others.len()),
    }
}

/// What failed. The last message asks for an answer, and by its answer all have been worked through.
pub async fn send_batch<P: Protocol>(socket: &mut TokioSocket, batch: &mut [Message<P>]) -> anyhow::Result<Vec<String>> {
    let bytes = bytes(batch)?;
    let last = u32::try_from(batch.len())?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.context("sending to the kernel")?;
    let mut failed = BTreeMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await.context("reading the kernel's answer")?;
        for answer in answers::<P>(&datagram) {
            let answer = answer?;
            let NetlinkPayload::Error(error) = &answer.payload else { continue };
            if let Some(code) = error.code {
                failed.insert(answer.header.sequence_number, Errno::from_raw(-code.get()));
            }
            if answer.header.sequence_number == last {
                return Ok(told(batch, failed));
            }
        }
    }
}

/// As they are sent: numbered from one, the last one asks for an answer.
pub fn bytes<P: Protocol>(batch: &mut [Message<P>]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let last = u32::try_from(batch.len())?;
    for (number, Message { netlink, .. }) in (1..).zip(batch) {
        netlink.header.sequence_number = number;
        if number == last {
            netlink.header.flags |= NLM_F_ACK;
        }
        netlink.finalize();
        // Messages begin at multiples of four (NLMSG_ALIGNTO).
        let from = bytes.len().next_multiple_of(4);
        bytes.resize(from + netlink.buffer_len(), 0);
        netlink.serialize(&mut bytes[from..]);
    }
    Ok(bytes)
}

/// The messages of a datagram. After one that cannot be read nothing more is.
pub fn answers<P: NetlinkDeserializable>(datagram: &[u8]) -> impl Iterator<Item = anyhow::Result<NetlinkMessage<P>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let answer = NetlinkMessage::deserialize(rest).context("reading the kernel's answer");
        let length = answer.as_ref().ok().and_then(|answer| usize::try_from(answer.header.length).ok()).unwrap_or(rest.len());
        rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

/// What the kernel says to one question, the parts of a long answer one after the other; an error where it has none.
pub async fn ask<P: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    mut question: NetlinkMessage<P>,
) -> anyhow::Result<Result<Vec<P>, Errno>> {
    let socket = TokioSocket::new(protocol).context("opening a netlink socket")?;
    question.header.sequence_number = 1;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    let asked = async {
        socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.context("sending to the kernel")?;
        let mut parts = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().await.context("reading the kernel's answer")?;
            for answer in answers::<P>(&datagram) {
                match answer?.payload {
                    NetlinkPayload::InnerMessage(part) => parts.push(part),
                    NetlinkPayload::Done(_) => return Ok(Ok(parts)),
                    NetlinkPayload::Error(error) => {
                        return Ok(match error.code {
                            None => Ok(parts),
                            Some(code) => Err(Errno::from_raw(-code.get())),
                        });
                    }
                    _ => {}
                }
            }
        }
    };
    timeout(DEADLINE, asked).await.context("waiting for the kernel's answer")?
}

fn told<P: Protocol>(batch: &[Message<P>], failed: BTreeMap<u32, Errno>) -> Vec<String> {
    let message = |number: u32| batch.get(usize::try_from(number).ok()?.checked_sub(1)?);
    let failed = failed.into_iter().filter_map(|(number, errno)| Some((message(number)?, errno)));
    failed
        .filter(|(message, errno)| !message.fine.contains(errno))
        .map(|(message, errno)| format!("{}: {}", message.what, errno.desc()))
        .collect()
}
