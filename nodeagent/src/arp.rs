//! Who has an IPv4 address: ARP (RFC 826), and how it finds an address that two machines have (RFC 5227).

use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::socket::LinkAddr;
use socket2::SockFilter;
use tokio::time::{Instant, timeout_at};

use crate::packets::{self, BROADCAST, IS, Kind, LOAD_WORD, Listener, Mac, RETURN};

/// Probes before an address is used, and the time between them and after the last. RFC 5227 asks for seconds, which every boot would wait for: they
/// are of a time of shared cables. Whoever is slower than this is found when it speaks the next time.
const PROBES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// What a machine said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub mac: Mac,
    /// The address that it calls its own; unspecified in a probe.
    pub address: Ipv4Addr,
}

/// A request to all.
fn request(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet = [BROADCAST.as_slice(), &mac, &(Kind::Arp as u16).to_be_bytes()].concat();
    // Ethernet, IPv4, their lengths, request.
    let head = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
    [ethernet.as_slice(), &head, &mac, &own.octets(), &[0; 6], &target.octets()].concat()
}

/// A gratuitous request (RFC 5227, 3): everybody takes it.
pub fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(mac, address, address)
}

/// Asks whether somebody has an address without changing what anybody knows (RFC 5227, 1.1).
pub fn probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(mac, Ipv4Addr::UNSPECIFIED, address)
}

/// A packet from its network header on; `None` for what is not ARP of IPv4 on Ethernet.
pub fn read(packet: &[u8]) -> Option<Said> {
    if packet.get(..6)? != [0, 1, 0x08, 0x00, 6, 4] {
        return None;
    }
    // What follows is whom it is about.
    let packet: &[u8; 28] = packet.get(..28)?.try_into().ok()?;
    let mac = <[u8; 6]>::try_from(&packet[8..14]).ok()?;
    let address = <[u8; 4]>::try_from(&packet[14..18]).ok()?;
    Some(Said { mac, address: address.into() })
}

/// A filter program that takes what those say who call one of these addresses their own.
pub fn said_by(addresses: &[Ipv4Addr]) -> Vec<SockFilter> {
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, 14)];
    // The kernel takes 4096 lines. No machine has more than a few addresses.
    for address in addresses.iter().take(2000) {
        program.extend([SockFilter::new(IS, 0, 1, (*address).into()), SockFilter::new(RETURN, 0, 0, u32::MAX)]);
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}

/// Who else has this address on the link.
///
/// Only who calls it its own counts: switches that watch which machine is where probe addresses that others have, and say so of none.
pub async fn holder(card: &LinkAddr, mac: Mac, address: Ipv4Addr) -> anyhow::Result<Option<Mac>> {
    let listener = Listener::open(Kind::Arp, Some(card), &said_by(&[address]))?;
    // A card beside this one answers for all addresses of the machine.
    let own = packets::own_macs()?;
    for _ in 0..PROBES {
        packets::send(card, &probe(mac, address))?;
        let enough = Instant::now() + PAUSE;
        while let Ok(heard) = timeout_at(enough, listener.next()).await {
            match read(&heard?.packet) {
                Some(said) if said.address == address && !own.contains(&said.mac) => return Ok(Some(said.mac)),
                _ => {}
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 5, 0, 10];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

    #[test]
    fn what_is_said_is_read_and_cut_off_anywhere_it_is_nothing() {
        let expected = "ffffffffffff52540005000a080600010800060400 0152540005000ac0000264000000000000c0000264".replace(' ', "");
        assert_eq!(hex::encode(announcement(MAC, ADDRESS)), expected);
        let probe = probe(MAC, ADDRESS);
        assert_eq!(read(&probe[14..]), Some(Said { mac: MAC, address: Ipv4Addr::UNSPECIFIED }));
        for length in 14..probe.len() {
            assert_eq!(read(&probe[14..length]), None, "{length}");
        }
    }
}
