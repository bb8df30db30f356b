//! Finds addresses of this machine that another machine has too, and tells. It is not fought about: who of the two is to have the address, only people
//! know. A lease is looked at before it is used, by the client that asks for it.
//!
//! reads: addresses, links   writes: duplicates (those of IPv6 as the kernel tells of them)

mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep_until};
use watched::{Key, Say, Told, Watched};

use crate::arp;
use crate::node::Node;
use crate::packets::{self, Kind, Listener};
use crate::resources::link::Link;
use crate::resources::network::{Address, Duplicate, hardware_address};
use crate::store::{Resource, Store, next_of};

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
        tell(node, watched.follow(own, start.elapsed()));
        let (due, ended) = watched.due(start.elapsed());
        tell(node, ended);
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
            heard = listener.next() => tell(node, hear(&mut watched, &links_by_index, &heard?)?),
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

fn tell(node: &Node, told: Vec<Told>) {
    for told in told {
        match told {
            Told::Found((link, address), mac) => {
                let other = hardware_address(&mac);
                let message = format!("{address} is that of {other} too; this machine goes on using it");
                node.events.emit(format!("link/{link}"), "DuplicateAddress", message);
                let duplicate = Duplicate { link, address: address.into(), hardware_address: other, used: true };
                node.store.put(&duplicate.name(), &duplicate);
            }
            Told::Ended((link, address)) => {
                node.events.emit(
                    format!("link/{link}"),
                    "DuplicateAddressGone",
                    format!("no other machine answers for {address} any more"),
                );
                node.store.remove::<Duplicate>(&format!("{link}/{address}"));
            }
            Told::Forgotten((link, address)) => node.store.remove::<Duplicate>(&format!("{link}/{address}")),
        }
    }
}

/// Those that the kernel found by itself, and does not use.
pub fn tell_of_ipv6(node: &Node, found: &BTreeSet<(String, IpAddr)>) {
    let before = node.store.all::<Duplicate>().into_values().filter(|duplicate| !duplicate.used);
    for gone in before.filter(|duplicate| !found.contains(&(duplicate.link.clone(), duplicate.address))) {
        node.store.remove::<Duplicate>(&gone.name());
    }
    for (link, address) in found {
        let duplicate = Duplicate { link: link.clone(), address: *address, hardware_address: String::new(), used: false };
        node.store.put(&duplicate.name(), &duplicate);
    }
}
