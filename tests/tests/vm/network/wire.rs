//! A wire that a machine's cards and this process are on: each QEMU process has a hub for its cards, and a socket of datagrams leads out of it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long one question waits for its answer; whoever asks does so again.
const ANSWER: Duration = Duration::from_secs(2);

/// This station's hardware address.
const STATION: [u8; 6] = [0x52, 0x54, 0, 0, 1, 0xfe];
const EVERYBODY: [u8; 6] = [0xff; 6];

const VLAN: [u8; 2] = [0x81, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];

#[derive(Debug)]
pub struct Wire {
    folder: PathBuf,
    socket: UnixDatagram,
}

impl Wire {
    pub fn new(folder: &Path) -> anyhow::Result<Wire> {
        std::fs::create_dir_all(folder)?;
        let socket = UnixDatagram::bind(folder.join("station"))?;
        Ok(Wire { folder: folder.to_owned(), socket })
    }

    /// What QEMU calls a card; they are counted from 1.
    pub fn card(number: usize) -> String {
        format!("card{number}")
    }

    /// QEMU's arguments for a machine with so many cards on the wire.
    pub fn cards(&self, count: usize) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let ends = format!("local.type=unix,local.path={},remote.type=unix,remote.path={}", path("machine"), path("station"));
        let mut arguments = vec!["-netdev".to_owned(), format!("dgram,id=wire,{ends}")];
        arguments.extend(["-netdev".to_owned(), "hubport,id=out,hubid=0,netdev=wire".to_owned()]);
        for number in 1..=count {
            let card = Wire::card(number);
            arguments.extend(["-netdev".to_owned(), format!("hubport,id=port{number},hubid=0")]);
            arguments.extend([
                "-device".to_owned(),
                format!("virtio-net-pci,netdev=port{number},id={card},mac=52:54:00:00:01:{number:02x},romfile="),
            ]);
        }
        arguments
    }

    /// Asks who has the address, and then that station for an echo, both with the VLAN's tag; an answer has the tag too.
    pub fn ping(&self, vlan: u16, machine: [u8; 4], station: [u8; 4]) -> anyhow::Result<()> {
        let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &STATION, &station, &[0; 6], &machine].concat();
        self.send(EVERYBODY, vlan, ARP, &request)?;
        let is_reply = |payload: &[u8]| payload.get(6..8) == Some(&[0, 2][..]) && payload.get(14..18) == Some(&machine[..]);
        let reply = self.receive(vlan, ARP, is_reply).with_context(|| format!("nobody has {machine:?} in VLAN {vlan}"))?;
        let address: [u8; 6] = reply[8..14].try_into()?;

        self.send(address, vlan, IPV4, &echo_request(station, machine))?;
        let is_echo =
            |payload: &[u8]| payload.get(12..16) == Some(&machine[..]) && payload.get(9) == Some(&1) && payload.get(20) == Some(&0);
        self.receive(vlan, IPV4, is_echo).with_context(|| format!("no echo of {machine:?} in VLAN {vlan}")).map(drop)
    }

    fn send(&self, to: [u8; 6], vlan: u16, kind: [u8; 2], payload: &[u8]) -> anyhow::Result<()> {
        let frame = [&to[..], &STATION, &VLAN, &vlan.to_be_bytes(), &kind, payload].concat();
        self.socket.send_to(&frame, self.folder.join("machine")).context("sending a frame")?;
        Ok(())
    }

    /// The payload of the next frame for this station with the tag, of the kind, and as wanted; `None` of them is an error.
    fn receive(&self, vlan: u16, kind: [u8; 2], is_wanted: impl Fn(&[u8]) -> bool) -> anyhow::Result<Vec<u8>> {
        let until = Instant::now() + ANSWER;
        let mut frame = [0_u8; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no answer within {ANSWER:?}");
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut frame) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => bail!(error),
            };
            let (header, payload) = frame[..length].split_at(length.min(18));
            let tagged = header.len() == 18 && header[12..14] == VLAN && u16::from_be_bytes([header[14], header[15]]) & 0xfff == vlan;
            if tagged && header[..6] == STATION && header[16..18] == kind && is_wanted(payload) {
                return Ok(payload.to_vec());
            }
        }
    }
}

/// An IPv4 packet with an ICMP echo request.
fn echo_request(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(b"are you there?");
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let length = u16::try_from(20 + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = [&[0x45, 0][..], &length, &[0, 1, 0, 0, 64, 1, 0, 0], &from, &to].concat();
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(message);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn an_echo_request_is_whole() {
    let packet = echo_request([198, 51, 100, 2], [198, 51, 100, 1]);
    // A sum over all words, itself among them, is all ones.
    assert_eq!((checksum(&packet[..20]), checksum(&packet[20..])), (0, 0));
    assert_eq!(packet.len(), usize::from(u16::from_be_bytes([packet[2], packet[3]])));
}
