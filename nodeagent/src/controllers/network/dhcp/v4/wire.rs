//! DHCPv4 on a link: packets of its own making, since the machine may have no address to send from.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::Context;
use nix::sys::socket::LinkAddr;
use socket2::{Domain, Socket, Type};

use super::{CLIENT_PORT, SERVER_PORT, read, v4, write};
use crate::arp;
use crate::controllers::network::dhcp::client::{Ask, Reply};
use crate::packets::{self, BROADCAST, Kind, Listener, Mac};

#[derive(Debug)]
pub struct Wire {
    link: String,
    mac: Mac,
    number: u32,
    /// Open while an answer is waited for.
    listener: Option<Listener>,
    /// Holds the port while a server is asked at its address: the kernel would refuse what comes to one that nobody has.
    unicast: Option<Socket>,
}

impl Wire {
    pub fn new(link: String, mac: Mac) -> Wire {
        Wire { link, mac, number: 0, listener: None, unicast: None }
    }

    pub fn close(&mut self) {
        (self.listener, self.unicast) = (None, None);
    }

    /// Answers to another question than that of `number` are none.
    pub fn send(&mut self, ask: &Ask, number: u32, listens: bool) -> anyhow::Result<()> {
        self.number = number;
        let payload = write(ask, number, self.mac)?;
        let card = packets::card(&self.link)?;
        if listens {
            self.listener = Some(Listener::open(Kind::Ipv4, Some(&card), &packets::to_port(CLIENT_PORT))?);
        }
        match ask {
            Ask::Renew { address, server } => {
                // One that is still open has the port.
                self.unicast = None;
                let sent = unicast(&self.link, v4(*address)?, v4(server.address)?, &payload);
                self.unicast = Some(sent.with_context(|| format!("asking {server} for a renewal"))?);
                Ok(())
            }
            _ => broadcast(&card, self.mac, ask, &payload),
        }
    }

    /// The next answer to the question that was asked last.
    pub async fn hear(&self) -> Reply {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            let heard = match listener.next().await {
                Ok(heard) => heard,
                Err(error) => {
                    tracing::warn!(link = self.link, "DHCP: {error:#}");
                    // A new one is opened with the next question.
                    return std::future::pending().await;
                }
            };
            let Some((_, _, payload)) = packets::read_udp(&heard.packet) else { continue };
            match read(payload, self.number, self.mac) {
                Ok(Some(reply)) => return reply,
                Ok(None) => {}
                Err(error) => tracing::warn!(link = self.link, "DHCP: {error:#}"),
            }
        }
    }

    /// Who else has the address. Where that cannot be found out, nobody is said to: a machine that cannot look needs an address all the same.
    pub async fn probe(&self, address: IpAddr) -> Option<Mac> {
        let probed = async { arp::holder(&packets::card(&self.link)?, self.mac, v4(address)?).await };
        probed.await.unwrap_or_else(|error| {
            tracing::warn!(link = self.link, %address, "looking for another machine with this address: {error:#}");
            None
        })
    }
}

fn broadcast(card: &LinkAddr, mac: Mac, ask: &Ask, payload: &[u8]) -> anyhow::Result<()> {
    let own = match ask {
        Ask::Rebind { address } => v4(*address)?,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let (from, to) = (SocketAddrV4::new(own, CLIENT_PORT), SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT));
    packets::send(card, &packets::udp(mac, BROADCAST, from, to, payload)?)
}

fn unicast(link: &str, own: Ipv4Addr, server: Ipv4Addr, payload: &[u8]) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.bind_device(Some(link.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(own, CLIENT_PORT).into())?;
    socket.send_to(payload, &SocketAddrV4::new(server, SERVER_PORT).into())?;
    Ok(socket)
}
