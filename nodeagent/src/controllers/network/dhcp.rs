//! One link's DHCPv4 client: keeps the lease on the board for as long as it is valid. What it does next is decided in [`client`]; here are its clock, its
//! packets and the board.

mod client;
mod kept;
mod message;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context;
use client::{Client, Effect, Event};
use machine::HardwareAddress;
use message::{Ask, CLIENT_PORT, Reply, SERVER_PORT};
use nix::sys::socket::LinkAddr;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Socket, Type};

use crate::arp;
use crate::clock::Clock;
use crate::node::Node;
use crate::packets::{self, BROADCAST, Kind, Listener, Mac};
use crate::resources::link::Link;
use crate::resources::network::Lease;
use crate::store::{Resource, next_of};
pub use kept::{forget, recall};

/// Runs until it is aborted, or until the link is gone. It begins with a link that has a carrier, or with a lease that was kept.
pub async fn run(node: Node, link: String, index: u32, hardware_address: HardwareAddress) {
    let (_, mut links) = node.store.watch(Link::KIND);
    let clock = Clock::new(&node.root);
    let mut conversation = Conversation {
        client: Client::new(kept::recall_one(&node.root, &link, clock.since_boot())),
        clock,
        mac: hardware_address.0,
        last: None,
        number: 0,
        listener: None,
        unicast: None,
        carrier_losses: None,
        node,
        link,
        index,
    };
    conversation.step(Event::Carrier(true)).await;
    while let LinkIs::There = conversation.follow_carrier().await {
        // What the client does by itself, until there is something new about links.
        loop {
            let event = tokio::select! {
                is_open = next_of(&[Link::KIND], &mut links) => if is_open { break } else { return },
                reply = conversation.hear() => Event::Heard(reply),
                () = conversation.time() => Event::Elapsed,
            };
            conversation.step(event).await;
        }
    }
    conversation.give_up();
}

enum LinkIs {
    There,
    Gone,
}

struct Conversation {
    node: Node,
    link: String,
    index: u32,
    mac: Mac,
    client: Client,
    clock: Clock,
    /// The question that was asked last, and its number.
    last: Option<Ask>,
    number: u32,
    /// Open while an answer is waited for.
    listener: Option<Listener>,
    /// Holds the port while a server is asked at its address: the kernel would refuse what comes to one that nobody has.
    unicast: Option<Socket>,
    /// As the link counted them when it was looked at last.
    carrier_losses: Option<u32>,
}

impl Conversation {
    /// Does what follows from an event, and from what comes of that.
    async fn step(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for effect in self.client.next(event, self.clock.since_boot(), jitter()) {
                match effect {
                    Effect::Send(ask) => {
                        if let Err(error) = self.send(ask) {
                            // It is asked again after a while.
                            tracing::warn!(link = self.link, "DHCP: {error:#}");
                        }
                    }
                    Effect::Probe(address) => next = Some(Event::Probed(self.probe(address).await)),
                    Effect::Take(lease) => self.take(&lease),
                    Effect::Drop => self.give_up(),
                    Effect::Tell(reason, message) => self.node.events.emit(format!("link/{}", self.link), reason, message),
                }
            }
            if !self.client.listens() {
                (self.listener, self.unicast, self.last) = (None, None, None);
            }
        }
    }

    fn take(&self, lease: &Lease) {
        tracing::info!(link = self.link, address = %lease.address, seconds = lease.seconds, "DHCP lease");
        self.node.store.put(&self.link, lease);
        self.warn(self.client.held().map_or(Ok(()), |held| kept::keep(&self.node.root, &self.link, held)));
    }

    fn give_up(&self) {
        self.node.store.remove::<Lease>(&self.link);
        self.warn(forget(&self.node.root, &self.link));
    }

    /// What is kept is for the next agent alone, which asks for a lease where there is none.
    fn warn(&self, kept: anyhow::Result<()>) {
        if let Err(error) = kept {
            tracing::warn!(link = self.link, "DHCP: {error:#}");
        }
    }

    /// A carrier that went and came between two looks may be that of another network.
    async fn follow_carrier(&mut self) -> LinkIs {
        let link = match (self.node.store.get::<Link>(&self.link), self.carrier_losses) {
            (Some(link), _) if link.index == self.index => link,
            // The board may know less than who started this.
            (None, None) => return LinkIs::There,
            _ => return LinkIs::Gone,
        };
        let before = self.carrier_losses.replace(link.carrier_losses);
        if !link.carrier || before.is_some_and(|before| before != link.carrier_losses) {
            self.step(Event::Carrier(false)).await;
        }
        if link.carrier {
            self.step(Event::Carrier(true)).await;
        }
        LinkIs::There
    }

    /// Ends when the client's time has come.
    async fn time(&self) {
        match self.client.wake() {
            Some(wake) => tokio::time::sleep_until(self.clock.at(wake)).await,
            None => std::future::pending().await,
        }
    }

    /// The next answer to the question that was asked last.
    async fn hear(&self) -> Reply {
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
            match message::read(payload, self.number, self.mac) {
                Ok(Some(reply)) => return reply,
                Ok(None) => {}
                Err(error) => tracing::warn!(link = self.link, "DHCP: {error:#}"),
            }
        }
    }

    fn send(&mut self, ask: Ask) -> anyhow::Result<()> {
        if self.last.replace(ask) != Some(ask) {
            self.number = u32::from_ne_bytes(random());
        }
        let payload = message::write(ask, self.number, self.mac)?;
        let card = packets::card(&self.link)?;
        if self.client.listens() {
            self.listener = Some(Listener::open(Kind::Ipv4, Some(&card), &packets::to_port(CLIENT_PORT))?);
        }
        match ask {
            Ask::Renew { address, server } => {
                // One that is still open has the port.
                self.unicast = None;
                self.unicast =
                    Some(unicast(&self.link, address, server, &payload).with_context(|| format!("asking {server} for a renewal"))?);
                Ok(())
            }
            _ => broadcast(&card, self.mac, ask, &payload),
        }
    }

    /// Who else has the address. Where that cannot be found out, nobody is said to: a machine that cannot look needs an address all the same.
    async fn probe(&self, address: Ipv4Addr) -> Option<Mac> {
        let probed = async { arp::holder(&packets::card(&self.link)?, self.mac, address).await };
        probed.await.unwrap_or_else(|error| {
            tracing::warn!(link = self.link, %address, "looking for another machine with this address: {error:#}");
            None
        })
    }
}

fn broadcast(card: &LinkAddr, mac: Mac, ask: Ask, payload: &[u8]) -> anyhow::Result<()> {
    let own = match ask {
        Ask::Rebind { address } => address,
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

/// Up to a second.
fn jitter() -> Duration {
    Duration::from_millis(u64::from(u16::from_ne_bytes(random())) % 1000)
}

/// Without random numbers from the kernel machines would ask together and by the same numbers, which works on most links.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::warn!("DHCP: the kernel gives no random numbers");
    }
    bytes
}

#[cfg(test)]
mod tests;
