//! A link's DHCP clients, one for IPv4 and one for IPv6: each keeps its lease on the board for as long as it is valid. What it does next is decided in
//! [`client`]; here are its clock, its packets and the board.

mod client;
mod kept;
mod v4;
mod v6;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use client::{Ask, Client, Effect, Event, Reply};
use machine::HardwareAddress;
use ring::rand::{SecureRandom, SystemRandom};

use crate::clock::Clock;
use crate::node::Node;
use crate::packets::Mac;
use crate::resources::link::Link;
use crate::resources::network::{Duplicate, Lease};
use crate::store::{Resource, next_of};
pub use kept::{forget, recall};

/// The client of a link for one family, by which its lease is called: `eth0`, or `eth0/ipv6`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    pub link: String,
    pub ipv6: bool,
}

const IPV6: &str = "/ipv6";

impl Of {
    /// No link's name has a slash in it.
    pub fn named(name: &str) -> Of {
        let (link, ipv6) = name.strip_suffix(IPV6).map_or((name, false), |link| (link, true));
        Of { link: link.to_owned(), ipv6 }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.link, if self.ipv6 { IPV6 } else { "" })
    }
}

/// Runs until it is aborted, or until the link is gone. It begins with a link that has a carrier, or with a lease that was kept.
pub async fn run(node: Node, of: Of, index: u32, hardware_address: HardwareAddress) {
    let (_, mut links) = node.store.watch(Link::KIND);
    let clock = Clock::new(&node.root);
    let mac = hardware_address.0;
    let mut conversation = Conversation {
        client: Client::new(kept::recall_one(&node.root, &of, clock.since_boot())),
        clock,
        wire: if of.ipv6 { Wire::V6(v6::Wire::new(of.link.clone(), index, mac)) } else { Wire::V4(v4::Wire::new(of.link.clone(), mac)) },
        last: None,
        number: 0,
        carrier_losses: None,
        node,
        of,
        index,
    };
    conversation.step(Event::Carrier(true)).await;
    while let LinkIs::There = conversation.follow_carrier().await {
        if conversation.is_duplicate() {
            conversation.step(Event::Duplicate).await;
        }
        // What the client does by itself, until there is something new about links.
        loop {
            let event = tokio::select! {
                is_open = next_of(&[Link::KIND, Duplicate::KIND], &mut links) => if is_open { break } else { return },
                reply = conversation.wire.hear() => Event::Heard(reply),
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

/// How a family's messages come and go.
enum Wire {
    V4(v4::Wire),
    V6(v6::Wire),
}

impl Wire {
    fn send(&mut self, ask: &Ask, number: u32, listens: bool) -> anyhow::Result<()> {
        match self {
            Wire::V4(wire) => wire.send(ask, number, listens),
            Wire::V6(wire) => wire.send(ask, number),
        }
    }

    async fn hear(&self) -> Reply {
        match self {
            Wire::V4(wire) => wire.hear().await,
            Wire::V6(wire) => wire.hear().await,
        }
    }

    /// Who else has the address.
    async fn probe(&self, address: IpAddr) -> Option<Mac> {
        match self {
            Wire::V4(wire) => wire.probe(address).await,
            // The kernel looks itself, once the link has it (RFC 4862, 5.4).
            Wire::V6(_) => None,
        }
    }

    fn close(&mut self) {
        match self {
            Wire::V4(wire) => wire.close(),
            Wire::V6(wire) => wire.close(),
        }
    }
}

struct Conversation {
    node: Node,
    of: Of,
    index: u32,
    client: Client,
    clock: Clock,
    wire: Wire,
    /// The question that was asked last, and its number.
    last: Option<Ask>,
    number: u32,
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
                            tracing::warn!(lease = %self.of, "DHCP: {error:#}");
                        }
                    }
                    Effect::Probe(address) => next = Some(Event::Probed(self.wire.probe(address).await)),
                    Effect::Take(lease) => self.take(&lease),
                    Effect::Drop => self.give_up(),
                    Effect::Tell(reason, message) => self.node.events.emit(format!("link/{}", self.of.link), reason, message),
                }
            }
            if !self.client.listens() {
                self.wire.close();
                self.last = None;
            }
        }
    }

    fn send(&mut self, ask: Ask) -> anyhow::Result<()> {
        if self.last.as_ref() != Some(&ask) {
            self.number = u32::from_ne_bytes(random());
        }
        let sent = self.wire.send(&ask, self.number, self.client.listens());
        self.last = Some(ask);
        sent
    }

    fn take(&self, lease: &Lease) {
        tracing::info!(name = %self.of, address = %lease.address, seconds = lease.seconds, "DHCP lease");
        self.node.store.put(&self.of.to_string(), lease);
        self.warn(self.client.held().map_or(Ok(()), |held| kept::keep(&self.node.root, &self.of, held)));
    }

    fn give_up(&self) {
        self.node.store.remove::<Lease>(&self.of.to_string());
        self.warn(forget(&self.node.root, &self.of));
    }

    /// What is kept is for the next agent alone, which asks for a lease where there is none.
    fn warn(&self, kept: anyhow::Result<()>) {
        if let Err(error) = kept {
            tracing::warn!(lease = %self.of, "DHCP: {error:#}");
        }
    }

    /// Whether the kernel has found another machine with the address of the lease, and does not use it.
    fn is_duplicate(&self) -> bool {
        let held = self.client.held().map(|held| held.grant.address);
        let duplicates = self.node.store.all::<Duplicate>();
        duplicates.values().any(|duplicate| !duplicate.used && duplicate.link == self.of.link && Some(duplicate.address) == held)
    }

    /// A carrier that went and came between two looks may be that of another network.
    async fn follow_carrier(&mut self) -> LinkIs {
        let link = match (self.node.store.get::<Link>(&self.of.link), self.carrier_losses) {
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
