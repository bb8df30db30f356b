//! A station on a cluster's segment that is no machine of it: what it reaches, any neighbour of the machines does.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TcpSlice, TransportSlice,
};
use testbed::segment::{self, NIC_SOCKET, Plan, Port, SWITCH_SOCKET};
use tests::cluster::Cluster;

/// How long one question waits for its answer; whoever asks does so again.
const ANSWER: Duration = Duration::from_secs(5);
/// More than a frame of the segment.
const FRAME_BYTES: usize = 65_536;
const HARDWARE: [u8; 6] = [0x52, 0x54, 0x00, 0x05, 0x01, 0xfe];
const EVERYBODY: [u8; 6] = [0xff; 6];
const TTL: u8 = 64;
const WINDOW: u16 = 65_535;

#[derive(Debug)]
pub struct Outsider {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
    address: Ipv4Addr,
    /// Of the next connection, so that no two are alike.
    port: Cell<u16>,
}

impl Outsider {
    /// On the cluster's segment, until machinectl turns one of its machines on or takes one away: the segment then has the cluster's machines alone.
    pub fn plug_in(cluster: &Cluster, address: Ipv4Addr) -> anyhow::Result<Outsider> {
        let folder = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(folder.path().join(NIC_SOCKET))?;
        let directory = cluster.directory().join("segment");
        let mut plan = Plan::load(&directory)?;
        plan.ports.retain(|port| port.name != "outsider");
        plan.ports.push(Port { name: "outsider".to_owned(), directory: folder.path().to_owned() });
        segment::set(&directory, &plan)?;
        Ok(Outsider { socket, folder, address, port: Cell::new(40_000) })
    }

    /// The hardware address of whoever says that it has the address.
    pub fn who_has(&self, address: Ipv4Addr) -> anyhow::Result<[u8; 6]> {
        self.send(&arp(ArpOperation::REQUEST, (HARDWARE, self.address), ([0; 6], address), EVERYBODY)?)?;
        let until = Instant::now() + ANSWER;
        loop {
            let frame = self.next(until).with_context(|| format!("nobody says that it has {address}"))?;
            let Some(NetSlice::Arp(told)) = SlicedPacket::from_ethernet(&frame)?.net else { continue };
            if told.operation() == ArpOperation::REPLY && told.sender_protocol_addr() == address.octets() {
                return Ok(told.sender_hw_addr().try_into()?);
            }
        }
    }

    /// What is answered to `GET /` at this address, by whoever has it now. One connection without repetitions: a lost segment is an error.
    pub fn get(&self, address: Ipv4Addr, port: u16) -> anyhow::Result<String> {
        let to = self.who_has(address)?;
        let own = self.port.replace(self.port.get().wrapping_add(1).max(40_000));
        let begin = || PacketBuilder::ethernet2(HARDWARE, to).ipv4(self.address.octets(), address.octets(), TTL);
        let until = Instant::now() + ANSWER;

        let mut frame = Vec::new();
        begin().tcp(own, port, 0, WINDOW).syn().write(&mut frame, &[])?;
        self.send(&frame)?;
        let greeting = self.segment(own, until).context("no answer to SYN")?;
        ensure!(greeting.syn && !greeting.reset, "{address} refuses: {greeting:?}");

        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let sent = 1 + u32::try_from(request.len())?;
        let mut expected = greeting.number.wrapping_add(1);
        let mut frame = Vec::new();
        begin().tcp(own, port, 1, WINDOW).psh().ack(expected).write(&mut frame, request.as_bytes())?;
        self.send(&frame)?;
        let mut answer = Vec::new();
        loop {
            let segment =
                self.segment(own, until).with_context(|| format!("an answer without end: {:?}", String::from_utf8_lossy(&answer)))?;
            ensure!(!segment.reset, "{address} broke off");
            if segment.number != expected {
                continue;
            }
            answer.extend_from_slice(&segment.payload);
            expected = expected.wrapping_add(u32::try_from(segment.payload.len())?);
            if segment.end {
                break;
            }
            let mut frame = Vec::new();
            begin().tcp(own, port, sent, WINDOW).ack(expected).write(&mut frame, &[])?;
            self.send(&frame)?;
        }
        let mut frame = Vec::new();
        begin().tcp(own, port, sent, WINDOW).rst().write(&mut frame, &[])?;
        self.send(&frame)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The next segment of TCP for this port.
    fn segment(&self, port: u16, until: Instant) -> anyhow::Result<Segment> {
        loop {
            let frame = self.next(until)?;
            match SlicedPacket::from_ethernet(&frame)?.transport {
                Some(TransportSlice::Tcp(tcp)) if tcp.destination_port() == port => return Ok(Segment::of(&tcp)),
                _ => {}
            }
        }
    }

    /// The next frame for this station. Who asks for its hardware address is answered.
    fn next(&self, until: Instant) -> anyhow::Result<Vec<u8>> {
        let mut frame = vec![0; FRAME_BYTES];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing within {ANSWER:?}");
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut frame) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => bail!(error),
            };
            let Ok(packet) = SlicedPacket::from_ethernet(&frame[..length]) else { continue };
            if let Some(NetSlice::Arp(asked)) = &packet.net
                && asked.operation() == ArpOperation::REQUEST
                && asked.target_protocol_addr() == self.address.octets()
            {
                let asker: ([u8; 6], [u8; 4]) = (asked.sender_hw_addr().try_into()?, asked.sender_protocol_addr().try_into()?);
                self.send(&arp(ArpOperation::REPLY, (HARDWARE, self.address), (asker.0, asker.1.into()), asker.0)?)?;
                continue;
            }
            let is_ours = matches!(&packet.link, Some(LinkSlice::Ethernet2(link)) if link.destination() == HARDWARE);
            if is_ours {
                return Ok(frame[..length].to_vec());
            }
        }
    }

    fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        self.socket.send_to(frame, self.folder.path().join(SWITCH_SOCKET)).context("sending a frame").map(drop)
    }
}

#[derive(Debug)]
struct Segment {
    number: u32,
    syn: bool,
    end: bool,
    reset: bool,
    payload: Vec<u8>,
}

impl Segment {
    fn of(tcp: &TcpSlice<'_>) -> Segment {
        let payload = tcp.payload().to_vec();
        Segment { number: tcp.sequence_number(), syn: tcp.syn(), end: tcp.fin(), reset: tcp.rst(), payload }
    }
}

type Station = ([u8; 6], Ipv4Addr);

fn arp(operation: ArpOperation, from: Station, about: Station, to: [u8; 6]) -> anyhow::Result<Vec<u8>> {
    let (sender, target) = (from.1.octets(), about.1.octets());
    let packet = ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &from.0, &sender, &about.0, &target)?;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, to).arp(packet).write(&mut frame)?;
    Ok(frame)
}
