//! Name servers that routers tell of (RDNSS, RFC 8106). The kernel takes an advertisement's prefixes and routes itself, and hands this part on to whoever
//! listens.
//!
//! reads: links, what the kernel hands on   writes: advertisedresolvers

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use anyhow::{Context, ensure};
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep_until};

use crate::node::Node;
use crate::resources::link::Link;
use crate::resources::network::AdvertisedResolvers;
use crate::store::{Resource, next_of};

/// Of options that the kernel hands on (linux/rtnetlink.h).
const GROUP: u32 = 20;
const NEW_OPTION: u16 = 68;
/// Length of `nduseroptmsg`, which options follow.
const HEADER_BYTES: usize = 16;
const ROUTER_ADVERTISEMENT: u8 = 134;
const RDNSS: u8 = 25;
/// Name servers of one link that are kept: a router that tells of more is no help.
const MOST: usize = 8;

/// What is known of a link: each name server with its end.
type Known = BTreeMap<u32, BTreeMap<Ipv6Addr, Option<Instant>>>;

/// Listens for as long as the agent lives.
pub async fn watch(node: Node) {
    super::keep_on("listening to what routers advertise", || follow(&node)).await;
}

async fn follow(node: &Node) -> anyhow::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).context("opening a netlink socket")?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0)).context("binding a netlink socket")?;
    socket.socket_mut().add_membership(GROUP).context("listening to options of advertisements")?;
    let (_, mut links) = node.store.watch(Link::KIND);
    let (mut known, mut asked) = (Known::new(), BTreeMap::new());
    loop {
        let present = node.store.all::<Link>();
        ask(&present, &mut asked);
        let now = Instant::now();
        forget(&mut known, now, |index| present.values().any(|link| link.index == index && link.carrier));
        tell(node, &known, &present);
        let end = known.values().flat_map(BTreeMap::values).flatten().min().copied();
        let ended = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = socket.recv_from_full() => hear(&heard.context("reading options of advertisements")?.0, &mut known, Instant::now()),
            is_open = next_of(&[Link::KIND], &mut links) => ensure!(is_open, "the board is gone"),
            () = ended => {}
        }
    }
}

/// Routers advertise every few minutes, and at once to who asks. The kernel asks for a link that comes up; an agent that starts has missed what it heard.
fn ask(links: &BTreeMap<String, Link>, asked: &mut BTreeMap<u32, u32>) {
    for (name, link) in links.iter().filter(|(_, link)| link.carrier && link.leads_out()) {
        // Once for each time that it has a carrier.
        if asked.insert(link.index, link.carrier_losses) == Some(link.carrier_losses) {
            continue;
        }
        if let Err(error) = solicit(link.index) {
            tracing::info!(link = name, "asking routers to advertise: {error:#}");
        }
    }
}

/// RFC 4861, 4.1. The kernel fills in the checksum.
fn solicit(link: u32) -> anyhow::Result<()> {
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
    let socket = Socket::new(Domain::IPV6, Type::RAW.cloexec(), Some(Protocol::ICMPV6))?;
    socket.set_multicast_hops_v6(255)?;
    socket.send_to(&SOLICITATION, &SocketAddrV6::new(ALL_ROUTERS, 0, 0, link).into())?;
    Ok(())
}

/// What a datagram from the kernel says, which may be several messages.
fn hear(mut datagram: &[u8], known: &mut Known, now: Instant) {
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        if message.message_type() == NEW_OPTION
            && let Some((link, options)) = options(message.payload())
        {
            servers(options).for_each(|(server, lifetime)| learn(known.entry(link).or_default(), server, lifetime, now));
        }
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX).max(1).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
}

/// Link and options of an advertisement.
fn options(payload: &[u8]) -> Option<(u32, &[u8])> {
    let header = payload.get(..HEADER_BYTES)?;
    let length = usize::from(u16::from_ne_bytes([header[2], header[3]]));
    let link = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    (header[8] == ROUTER_ADVERTISEMENT).then_some((link, payload.get(HEADER_BYTES..)?.get(..length)?))
}

/// Name servers, and for how many seconds each is good.
fn servers(mut options: &[u8]) -> impl Iterator<Item = (Ipv6Addr, u32)> {
    let mut all = Vec::new();
    while let [kind, eights, ..] = *options {
        // Lengths are in units of eight bytes; none is of none (RFC 4861, 4.6).
        let Some((option, rest)) = options.split_at_checked(usize::from(eights) * 8).filter(|_| eights > 0) else { break };
        if kind == RDNSS && option.len() >= 8 {
            let lifetime = u32::from_be_bytes([option[4], option[5], option[6], option[7]]);
            let addresses = option[8..].chunks_exact(16).filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok());
            all.extend(addresses.map(|bytes| (Ipv6Addr::from(bytes), lifetime)));
        }
        options = rest;
    }
    all.into_iter()
}

fn learn(servers: &mut BTreeMap<Ipv6Addr, Option<Instant>>, server: Ipv6Addr, lifetime: u32, now: Instant) {
    const ENDLESS: u32 = u32::MAX;
    let unusable = server.is_unspecified() || server.is_loopback() || server.is_multicast() || server.is_unicast_link_local();
    if lifetime == 0 || unusable {
        servers.remove(&server);
    } else if servers.contains_key(&server) || servers.len() < MOST {
        servers.insert(server, (lifetime != ENDLESS).then(|| now + Duration::from_secs(lifetime.into())));
    }
}

/// What has ended, and what links without a carrier said: there may be another network behind them next.
fn forget(known: &mut Known, now: Instant, has_carrier: impl Fn(u32) -> bool) {
    known.retain(|link, servers| {
        servers.retain(|_, end| end.is_none_or(|end| now < end));
        !servers.is_empty() && has_carrier(*link)
    });
}

fn tell(node: &Node, known: &Known, links: &BTreeMap<String, Link>) {
    let by_name = links.iter().filter_map(|(name, link)| Some((name.clone(), known.get(&link.index)?)));
    node.store.replace(
        by_name.map(|(name, servers)| (name, AdvertisedResolvers { nameservers: servers.keys().copied().map(IpAddr::V6).collect() })),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes it: for link 7, an option of another kind first.
    fn message(lifetime: u32, servers: &[&str]) -> Vec<u8> {
        let addresses: Vec<u8> = servers.iter().flat_map(|server| server.parse::<Ipv6Addr>().unwrap().octets()).collect();
        let eights = u8::try_from(1 + addresses.len() / 8).unwrap();
        let options = [&[5, 1, 0, 0, 0, 0, 5, 220][..], &[RDNSS, eights, 0, 0], &lifetime.to_be_bytes(), &addresses].concat();
        let length = u16::try_from(options.len()).unwrap();
        let header = [&[10, 0][..], &length.to_ne_bytes(), &7_u32.to_ne_bytes(), &[ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]].concat();
        let payload = [header, options].concat();
        let total = u32::try_from(16 + payload.len()).unwrap();
        [&total.to_ne_bytes()[..], &NEW_OPTION.to_ne_bytes(), &[0; 10], &payload].concat()
    }

    fn told(known: &Known) -> Vec<String> {
        known.get(&7).into_iter().flat_map(BTreeMap::keys).map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_are_known_until_their_time_is_over_or_taken_back() {
        let (mut known, now) = (Known::new(), Instant::now());
        // Two messages in one datagram; of what nobody can use nothing is kept.
        let both = [message(60, &["2001:db8::53"]), message(u32::MAX, &["2001:db8::54", "::1", "fe80::1", "ff02::1"])].concat();
        hear(&both, &mut known, now);
        assert_eq!(told(&known), ["2001:db8::53", "2001:db8::54"]);
        forget(&mut known, now + Duration::from_secs(60), |_| true);
        assert_eq!(told(&known), ["2001:db8::54"]);
        hear(&message(0, &["2001:db8::54"]), &mut known, now);
        assert!(told(&known).is_empty());
        hear(&message(60, &["2001:db8::53"]), &mut known, now);
        forget(&mut known, now, |_| false);
        assert!(known.is_empty());
    }

    #[test]
    fn nothing_that_is_cut_short_or_lies_about_its_length_is_read_past_its_end() {
        let whole = message(60, &["2001:db8::53", "2001:db8::54"]);
        for length in 0..whole.len() {
            let mut known = Known::new();
            hear(&whole[..length], &mut known, Instant::now());
            assert!(told(&known).is_empty(), "{length}");
        }
        let at = 16 + HEADER_BYTES + 9;
        for eights in [0, 1, 2, 4, 6, 255] {
            let lying = [&whole[..at], &[eights], &whole[at + 1..]].concat();
            let mut known = Known::new();
            hear(&lying, &mut known, Instant::now());
            assert!(told(&known).len() <= 1, "{eights}: {known:?}");
        }
        let many: Vec<String> = (1..40).map(|last| format!("2001:db8::{last}")).collect();
        let mut known = Known::new();
        hear(&message(60, &many.iter().map(String::as_str).collect::<Vec<_>>()), &mut known, Instant::now());
        assert_eq!(told(&known).len(), MOST);
    }
}
