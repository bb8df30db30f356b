//! Tells the neighbours where the address is now: they remember the machine that had it before.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Context;

use crate::arp;
use crate::packets::{self, Mac, checksum};

/// 33:33 and the last octets of ff02::1, all nodes (RFC 2464, 7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub fn announce(address: IpAddr, link: &str) -> anyhow::Result<()> {
    let announcing = || format!("announcing {address} on {link}");
    let card = packets::card(link).with_context(announcing)?;
    let mac = card.addr().with_context(announcing)?;
    packets::send(&card, &frame(address, mac)).with_context(announcing)
}

fn frame(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp::announcement(mac, address),
        IpAddr::V6(address) => advertisement(address, mac),
    }
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6).
fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    // Neighbour advertisement, its checksum, flag override.
    let body = [&[136, 0, 0, 0, 0x20, 0, 0, 0], address.octets().as_slice(), &[2, 1], &mac].concat();
    let length = u8::try_from(body.len()).unwrap_or_default();
    let pseudo = [address.octets().as_slice(), &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6], &body].concat();
    let mut body = body;
    body[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let ethernet = [ALL_NODES_MAC.as_slice(), &mac, &[0x86, 0xdd]].concat();
    // Version 6; the hop limit shows that no router was in between.
    let head = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [ethernet.as_slice(), &head, &address.octets(), &ALL_NODES.octets(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 5, 0, 10];

    #[test]
    fn an_advertisement_to_all_nodes() {
        let frame = frame("2001:db8::100".parse().unwrap(), MAC);
        assert_eq!((frame.len(), &frame[12..22]), (86, [0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255].as_slice()));
        // Whoever receives it adds everything up, the checksum included.
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(&frame[80..], MAC);
    }
}
