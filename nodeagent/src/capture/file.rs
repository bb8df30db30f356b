//! The pcap format, as draft-ietf-opsawg-pcap has it, with packets of link type LINUX_SLL2, which tells of each its link and direction.

use std::time::Duration;

use nix::sys::socket::LinkAddr;

/// Times in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const LINUX_SLL2: u32 = 276;
const SLL2_BYTES: usize = 20;

/// What is known of a packet besides its bytes.
#[derive(Debug)]
pub struct Packet {
    /// Since 1970.
    pub time: Duration,
    /// As it came, from its network header on.
    pub length: usize,
    pub link: LinkAddr,
}

/// `packet_bytes`: what is kept of a packet at most.
pub fn head(packet_bytes: usize) -> Vec<u8> {
    let kept = number(packet_bytes + SLL2_BYTES);
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    bytes.extend(VERSION.0.to_le_bytes());
    bytes.extend(VERSION.1.to_le_bytes());
    // Two fields of no meaning any more.
    bytes.extend([0; 8]);
    bytes.extend(kept.to_le_bytes());
    bytes.extend(LINUX_SLL2.to_le_bytes());
    bytes
}

/// Adds a packet; `bytes` is at least as long as what is kept of it.
pub fn packet(to: &mut Vec<u8>, packet: &Packet, bytes: &[u8]) {
    let kept = &bytes[..packet.length.min(bytes.len())];
    to.extend(u32::try_from(packet.time.as_secs()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend(packet.time.subsec_nanos().to_le_bytes());
    to.extend(number(kept.len() + SLL2_BYTES).to_le_bytes());
    to.extend(number(packet.length + SLL2_BYTES).to_le_bytes());
    let link = &packet.link;
    // The kernel has it in the network's order already.
    to.extend(link.protocol().to_ne_bytes());
    to.extend([0; 2]);
    to.extend(number(link.ifindex()).to_be_bytes());
    to.extend(link.hatype().to_be_bytes());
    let address = link.addr().unwrap_or_default();
    let length = link.halen().min(address.len());
    to.extend([link.pkttype(), length as u8]);
    to.extend(address);
    to.extend([0; 2]);
    to.extend(kept);
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
