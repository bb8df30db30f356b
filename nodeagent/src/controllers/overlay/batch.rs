//! Many netlink messages in one send. The kernel works through them in their order, before the send returns, and one that fails does not
//! keep it from the next; it answers only those that ask for it or fail.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use netlink_packet_core::{NLM_F_ACK, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::time::timeout;

use super::message::Message;

/// Messages of one send: if all failed, their answers must fit into the socket's receive buffer (some 200 KiB, of which each takes 0.8).
const MOST: usize = 128;
/// The kernel answers at once; one that is out of memory does not.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends all of them; an error names each that failed.
pub async fn send(messages: Vec<Message>) -> anyhow::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).context("opening a netlink socket")?;
    let mut failures = Vec::new();
    for batch in messages.chunks(MOST) {
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
async fn send_batch(socket: &mut TokioSocket, batch: &[Message]) -> anyhow::Result<Vec<String>> {
    let mut bytes = Vec::new();
    let last = u32::try_from(batch.len())?;
    for (number, message) in (1..).zip(batch) {
        let mut netlink = message.netlink.clone();
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
    socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.context("sending to the kernel")?;
    let mut failed = BTreeMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await.context("reading the kernel's answer")?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer: NetlinkMessage<RouteNetlinkMessage> = NetlinkMessage::deserialize(rest).context("reading the kernel's answer")?;
            let number = answer.header.sequence_number;
            if let NetlinkPayload::Error(error) = &answer.payload
                && let Some(code) = error.code
            {
                failed.insert(number, Errno::from_raw(-code.get()));
            }
            if number == last && matches!(answer.payload, NetlinkPayload::Error(_)) {
                return Ok(told(batch, failed));
            }
            let length = usize::try_from(answer.header.length)?.next_multiple_of(4);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

fn told(batch: &[Message], failed: BTreeMap<u32, Errno>) -> Vec<String> {
    let message = |number: u32| batch.get(usize::try_from(number).ok()?.checked_sub(1)?);
    let failed = failed.into_iter().filter_map(|(number, errno)| Some((message(number)?, errno)));
    failed
        .filter(|(message, errno)| !message.fine.contains(errno))
        .map(|(message, errno)| format!("{}: {}", message.what, errno.desc()))
        .collect()
}
