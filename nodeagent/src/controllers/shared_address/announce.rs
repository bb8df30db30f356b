//! Tells the neighbours where the address is now: they remember the machine that had it before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use anyhow::Context;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// 33:33 and the last octets of ff02::1, all nodes (RFC 2464, 7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub fn announce(address: IpAddr, link: &str) -> anyhow::Result<()> {
    let announcing = || format!("announcing {address} on {link}");
    let card = card(link).with_context(announcing)?;
    let mac = card.addr().with_context(announcing)?;
    let frame = frame(address, mac);
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).with_context(announcing)?;
    sendto(raw.as_raw_fd(), &frame, &card, MsgFlags::empty()).with_context(announcing)?;
    Ok(())
}

/// The link as packet sockets know it.
fn card(link: &str) -> anyhow::Result<LinkAddr> {
    let all = getifaddrs().context("listing links")?;
    let mut of_link = all.filter(|found| found.interface_name == link);
    of_link.find_map(|found| found.address?.as_link_addr().copied()).context("it has no hardware address")
}

fn frame(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(address, mac),
        IpAddr::V6(address) => advertisement(address, mac),
    }
}

/// A gratuitous ARP request (RFC 5227, 3): everybody takes it.
fn arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let ethernet = [BROADCAST.as_slice(), &mac, &[0x08, 0x06]].concat();
    // Ethernet, IPv4, their lengths, request.
    let head = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
    [ethernet.as_slice(), &head, &mac, &address.octets(), &[0; 6], &address.octets()].concat()
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

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 5, 0, 10];

    #[test]
    fn an_arp_request_for_oneself() {
        let expected = "ffffffffffff52540005000a080600010800060400 0152540005000ac0000264000000000000c0000264".replace(' ', "");
        assert_eq!(hex::encode(frame("192.0.2.100".parse().unwrap(), MAC)), expected);
    }

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
