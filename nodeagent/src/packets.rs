//! Packets straight from and to a link, past the kernel's IP: for what has to speak before there is an address, or about addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use anyhow::Context;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, recvfrom, sendto, socket};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];

/// More than a packet of a link that carries what Ethernet does.
const PACKET_BYTES: usize = 2048;

/// The EtherType (linux/if_ether.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ipv4 = 0x0800,
    Arp = 0x0806,
}

/// A link as packet sockets know it.
pub fn card(link: &str) -> anyhow::Result<LinkAddr> {
    let all = getifaddrs().context("listing links")?;
    let mut of_link = all.filter(|found| found.interface_name == link);
    of_link.find_map(|found| found.address?.as_link_addr().copied()).with_context(|| format!("link {link} has no hardware address"))
}

/// The hardware addresses of all links of this machine.
pub fn own_macs() -> anyhow::Result<Vec<Mac>> {
    let all = getifaddrs().context("listing links")?;
    Ok(all.filter_map(|found| found.address?.as_link_addr()?.addr()).collect())
}

/// Sends a whole frame, its Ethernet header included.
pub fn send(card: &LinkAddr, frame: &[u8]) -> anyhow::Result<()> {
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).context("opening a packet socket")?;
    sendto(raw.as_raw_fd(), frame, card, MsgFlags::empty()).context("sending a frame")?;
    Ok(())
}

/// Hears packets of one kind: of one link, or of all. tokio has no type of its own for packet sockets; it polls this one as any other.
#[derive(Debug)]
pub struct Listener(UdpSocket);

/// A packet from its network header on.
#[derive(Debug)]
pub struct Heard {
    pub packet: Vec<u8>,
    /// Index of the link.
    pub link: u32,
}

impl Listener {
    /// The kernel gives what the program takes, and nothing else.
    pub fn open(kind: Kind, card: Option<&LinkAddr>, program: &[SockFilter]) -> anyhow::Result<Listener> {
        let protocol = Protocol::from(i32::from((kind as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(protocol)).context("opening a packet socket")?;
        socket.attach_filter(program).context("giving the filter to the kernel")?;
        if let Some(card) = card {
            bind(socket.as_raw_fd(), card).context("binding a packet socket to a link")?;
        }
        Ok(Listener(UdpSocket::from_std(socket.into())?))
    }

    /// From now on what this program takes.
    pub fn take(&self, program: &[SockFilter]) -> anyhow::Result<()> {
        SockRef::from(&self.0).attach_filter(program).context("giving the filter to the kernel")
    }

    pub async fn next(&self) -> anyhow::Result<Heard> {
        loop {
            self.0.readable().await?;
            let mut packet = vec![0; PACKET_BYTES];
            let receive = || recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut packet).map_err(io::Error::from);
            match self.0.try_io(Interest::READABLE, receive) {
                Ok((length, from)) => {
                    packet.truncate(length);
                    let link = from.map(|from| from.ifindex()).and_then(|index| u32::try_from(index).ok()).unwrap_or_default();
                    return Ok(Heard { packet, link });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The link went down; it may come up again.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENETDOWN as i32) => {}
                Err(error) => return Err(error).context("receiving a packet"),
            }
        }
    }
}

/// A UDP packet in a frame.
pub fn udp(from: Mac, to: Mac, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    const TTL: u8 = 64;
    let udp_length = u16::try_from(8 + payload.len()).context("a packet of more than 65535 bytes")?;
    let total = udp_length.checked_add(20).context("a packet of more than 65535 bytes")?;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, TTL, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..16].copy_from_slice(&source.ip().octets());
    ip[16..20].copy_from_slice(&destination.ip().octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [source.port().to_be_bytes(), destination.port().to_be_bytes(), udp_length.to_be_bytes(), [0; 2]].concat();
    udp.extend_from_slice(payload);
    let pseudo = [&ip[12..20], &[0, UDP], &udp_length.to_be_bytes(), &udp].concat();
    // No checksum is written as nought, and nought as its complement (RFC 768).
    let sum = Some(checksum(&pseudo)).filter(|sum| *sum != 0).unwrap_or(0xffff);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    Ok([&to[..], &from, &(Kind::Ipv4 as u16).to_be_bytes(), &ip, &udp].concat())
}

const UDP: u8 = 17;

/// Source, destination and payload of an IPv4 packet that is a whole UDP packet. Checksums are not looked at: a packet from the same machine has none
/// yet, and a frame has its own.
pub fn read_udp(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let is_ipv4 = packet[0] >> 4 == 4 && header >= 20;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let (source, destination) = (address(12)?, address(16)?);
    let udp = packet.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes(<[u8; 2]>::try_from(udp.get(at..at + 2)?).ok()?));
    let payload = udp.get(8..usize::from(number(4)?))?;
    let whole = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff == 0;
    let ports = (number(0)?, number(2)?);
    (is_ipv4 && whole && packet[9] == UDP).then(|| (SocketAddrV4::new(source, ports.0), SocketAddrV4::new(destination, ports.1), payload))
}

/// A filter program that takes UDP packets to this port (classic BPF, Documentation/networking/filter.rst).
pub fn to_port(port: u16) -> [SockFilter; 9] {
    let line = SockFilter::new;
    [
        line(LOAD_BYTE, 0, 0, 9),
        line(IS, 0, 6, UDP.into()),
        line(LOAD_HALF, 0, 0, 6),
        // No fragment but the first has ports.
        line(HAS_BITS, 4, 0, 0x1fff),
        line(HEADER_LENGTH, 0, 0, 0),
        line(LOAD_HALF_BEHIND_HEADER, 0, 0, 2),
        line(IS, 0, 1, port.into()),
        line(RETURN, 0, 0, u32::MAX),
        line(RETURN, 0, 0, 0),
    ]
}

// linux/bpf_common.h, by what they do.
pub const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
const HEADER_LENGTH: u16 = 0xb1;
pub const IS: u16 = 0x15;
const HAS_BITS: u16 = 0x45;
pub const RETURN: u16 = 0x06;

/// RFC 1071.
pub fn checksum(octets: &[u8]) -> u16 {
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

    #[test]
    fn a_packet_is_read_as_it_was_written_and_cut_off_anywhere_it_is_none() {
        let (from, to) = ("192.0.2.1:67".parse().unwrap(), "255.255.255.255:68".parse().unwrap());
        let frame = udp([2; 6], BROADCAST, from, to, b"hello").unwrap();
        assert_eq!((&frame[..6], &frame[12..14], checksum(&frame[14..34])), (&[0xff; 6][..], &[8, 0][..], 0));
        let packet = &frame[14..];
        assert_eq!(read_udp(packet), Some((from, to, &b"hello"[..])));
        for length in 0..packet.len() {
            assert_eq!(read_udp(&packet[..length]), None, "{length}");
        }
        let fragment = [&packet[..6], &[0x20, 0], &packet[8..]].concat();
        assert_eq!(read_udp(&fragment), None);
        // Whoever receives it adds everything up, the checksum included.
        let pseudo = [&packet[12..20], &[0, UDP, 0, 13], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
