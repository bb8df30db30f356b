//! DHCPv6 on a link: datagrams from its link-local address to all servers and relays there (RFC 8415, 7.1).

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use anyhow::Context;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{CLIENT_PORT, SERVER_PORT, SERVERS, read, write};
use crate::controllers::network::dhcp::client::{Ask, Reply};
use crate::packets::Mac;

/// More than any Ethernet packet holds.
const MOST_BYTES: usize = 9216;

#[derive(Debug)]
pub struct Wire {
    link: String,
    index: u32,
    mac: Mac,
    number: u32,
    /// When this question was asked first: servers are told how long nobody has answered.
    since: Instant,
    /// Open while an answer is waited for.
    socket: Option<UdpSocket>,
}

impl Wire {
    pub fn new(link: String, index: u32, mac: Mac) -> Wire {
        Wire { link, index, mac, number: 0, since: Instant::now(), socket: None }
    }

    pub fn close(&mut self) {
        self.socket = None;
    }

    /// Answers to another question than that of `number` are none.
    pub fn send(&mut self, ask: &Ask, number: u32) -> anyhow::Result<()> {
        if self.number != number {
            (self.number, self.since) = (number, Instant::now());
        }
        let payload = write(ask, number, self.mac, self.since.elapsed())?;
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open(&self.link).with_context(|| format!("opening port {CLIENT_PORT} on {}", self.link))?,
        };
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index);
        // Past tokio, which does not know yet whether a socket that was just opened takes anything. The link-local address is of no use for its first
        // second, while the kernel looks whether another machine has it.
        let sent = SockRef::from(&socket).send_to(&payload, &to.into()).context("sending to all DHCPv6 servers");
        self.socket = Some(socket);
        sent.map(drop)
    }

    /// The next answer to the question that was asked last.
    pub async fn hear(&self) -> Reply {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        let mut buffer = vec![0; MOST_BYTES];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(heard) => heard,
                Err(error) => {
                    tracing::warn!(link = self.link, "DHCPv6: {error:#}");
                    return std::future::pending().await;
                }
            };
            match read(&buffer[..length], self.number, self.mac, from.ip()) {
                Ok(Some(reply)) => return reply,
                Ok(None) => {}
                Err(error) => tracing::warn!(link = self.link, "DHCPv6: {error:#}"),
            }
        }
    }
}

fn open(link: &str) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(link.as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}
