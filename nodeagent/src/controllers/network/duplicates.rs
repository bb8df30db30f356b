//! Finds IPv4 addresses of this machine that another machine has too, and tells. It is not fought about: who of the two is to have the address, only
//! people know. A lease is looked at before it is used, by the client that asks for it. IPv6 addresses are looked at by the kernel, which does not use
//! those that are another's: what follows from that is planned with all else (`plan/refused.rs`), and told here.
//!
//! reads: addresses, links   writes: duplicates (those that are used all the same)

pub mod retries;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep_until};
use watched::{Key, Say, Watched};

use crate::arp;
use crate::node::Node;
use crate::packets::{self, Kind, Listener};
use crate::resources::link::Link;
use crate::resources::network::{Address, Duplicate};
use crate::store::{Resource, Store, next_of};

/// Between looks at an address that another machine has.
pub const RECHECK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Found(Duplicate),
    Ended(Duplicate),
    /// The address is not this machine's any more.
    Forgotten(Duplicate),
}

/// Watches for as long as the agent lives.
pub async fn watch(node: Node) {
    super::keep_on("looking for other machines with addresses of this one", || follow(&node)).await;
}

async fn follow(node: &Node) -> anyhow::Result<()> {
    let (_, mut changes) = node.store.watch(Address::KIND);
    // Links of pods speak as well: the kernel lets through only who calls an address of this machine its own.
    let listener = Listener::open(Kind::Arp, None, &arp::said_by(&[]))?;
    let (mut watched, mut listened, start) = (Watched::default(), BTreeSet::new(), Instant::now());
    loop {
        let own = own(&node.store);
        let wanted: BTreeSet<Ipv4Addr> = own.keys().map(|(_, address)| *address).collect();
        if wanted != listened {
            listener.take(&arp::said_by(&wanted.iter().copied().collect::<Vec<_>>()))?;
            listened = wanted;
        }
        let links_by_index = node.store.all::<Link>().into_iter().map(|(name, link)| (link.index, name)).collect();
        tell_all(node, watched.follow(own, start.elapsed()));
        let (due, ended) = watched.due(start.elapsed());
        tell_all(node, ended);
        for ((link, address), say) in due {
            if let Err(error) = speak(&link, address, say) {
                tracing::warn!(link, %address, "asking who else has the address: {error:#}");
            }
        }
        let wake = async {
            match watched.wake() {
                Some(wake) => sleep_until(start + wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = listener.next() => tell_all(node, hear(&mut watched, &links_by_index, &heard?)?),
            is_open = next_of(&[Address::KIND, Link::KIND], &mut changes) => ensure!(is_open, "the board is gone"),
            () = wake => {}
        }
    }
}

/// Addresses that the network controller gave to links with a carrier, and how often these have lost theirs.
fn own(store: &Store) -> BTreeMap<Key, u32> {
    let links = store.all::<Link>();
    let of_link = |address: Address| {
        let link = links.get(&address.link).filter(|link| address.owned && link.carrier && !link.hardware_address.is_empty())?;
        match address.address.addr() {
            IpAddr::V4(ip) => Some(((address.link, ip), link.carrier_losses)),
            IpAddr::V6(_) => None,
        }
    };
    store.all::<Address>().into_values().filter_map(of_link).collect()
}

fn speak(link: &str, address: Ipv4Addr, say: Say) -> anyhow::Result<()> {
    let card = packets::card(link)?;
    let mac = card.addr().context("it has no hardware address")?;
    let frame = match say {
        Say::Probe => arp::probe(mac, address),
        Say::Announce => arp::announcement(mac, address),
    };
    packets::send(&card, &frame)
}

fn hear(watched: &mut Watched, links: &BTreeMap<u32, String>, heard: &packets::Heard) -> anyhow::Result<Vec<Told>> {
    let (Some(said), Some(link)) = (arp::read(&heard.packet), links.get(&heard.link)) else { return Ok(Vec::new()) };
    // A card beside this one answers for all addresses of the machine.
    if packets::own_macs()?.contains(&said.mac) {
        return Ok(Vec::new());
    }
    Ok(watched.heard(&(link.clone(), said.address), said.mac))
}

fn tell_all(node: &Node, told: Vec<Told>) {
    told.into_iter().for_each(|told| tell(node, told));
}

/// By an event and on the board.
pub fn tell(node: &Node, told: Told) {
    if let Some((reason, message)) = event(&told) {
        let (Told::Found(duplicate) | Told::Ended(duplicate) | Told::Forgotten(duplicate)) = &told;
        node.events.emit(format!("link/{}", duplicate.link), reason, message);
    }
    match told {
        Told::Found(duplicate) => node.store.put(&duplicate.name(), &duplicate),
        Told::Ended(duplicate) | Told::Forgotten(duplicate) => node.store.remove::<Duplicate>(&duplicate.name()),
    }
}

fn event(told: &Told) -> Option<(&'static str, String)> {
    match told {
        Told::Found(Duplicate { address, hardware_address, used: true, .. }) => {
            Some(("DuplicateAddress", format!("{address} is that of {hardware_address} too; this machine goes on using it")))
        }
        Told::Found(Duplicate { address, .. }) => {
            Some(("DuplicateAddress", format!("{address} is that of another machine already: the kernel does not use it")))
        }
        Told::Ended(Duplicate { address, used: true, .. }) => {
            Some(("DuplicateAddressGone", format!("no other machine answers for {address} any more")))
        }
        Told::Ended(Duplicate { address, .. }) => {
            Some(("DuplicateAddressGone", format!("no other machine has {address} any more: the kernel uses it")))
        }
        Told::Forgotten(_) => None,
    }
}
