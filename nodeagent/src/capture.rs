//! Packets as they pass the machine's links, as a file in the pcap format, in pieces.
//!
//! The kernel picks them (`filter.rs`), so that those that nobody wants cost next to nothing. What is kept in memory is the socket's buffer and one piece:
//! packets that come faster than a client takes them are dropped by the kernel and counted.

mod file;
pub mod filter;
#[cfg(test)]
mod tests;

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns, RxqOvfl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, recvmsg, setsockopt, socket,
};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use filter::{Filter, Instruction, program};

/// What the kernel keeps for a client that is slow for a moment.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// A piece is sent when it is so long, or when no packet waits.
const CHUNK_BYTES: usize = 128 * 1024;
/// No packet is longer.
pub const PACKET_BYTES_MOST: usize = 256 * 1024;

/// What ends a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub packets: u64,
    /// Of the file.
    pub bytes: u64,
    pub time: Duration,
    /// What is kept of each packet.
    pub packet_bytes: usize,
}

/// Which of the limits was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Packets,
    Bytes,
}

#[derive(Debug)]
pub struct Capture {
    /// tokio has no type of its own for packet sockets; it polls this one as any other.
    socket: UdpSocket,
    limits: Limits,
    packet: Vec<u8>,
    pub packets: u64,
    bytes: u64,
    /// As the kernel counts them, from the beginning.
    pub dropped: u64,
}

impl Capture {
    /// Listens from now on.
    pub fn start(filter: &Filter, limits: Limits) -> anyhow::Result<Capture> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll).context("opening a packet socket")?;
        attach(&socket, &program(&Filter::NOTHING)?)?;
        setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).context("setting the size of the buffer")?;
        setsockopt(&socket, ReceiveTimestampns, &true).context("asking for times")?;
        setsockopt(&socket, RxqOvfl, &1).context("asking for what is dropped")?;
        let packet = vec![0; limits.packet_bytes.clamp(1, PACKET_BYTES_MOST)];
        let mut capture = Capture { socket: UdpSocket::from_std(socket.into())?, limits, packet, packets: 0, bytes: 0, dropped: 0 };
        // What came before any filter was there.
        while capture.receive()?.is_some() {}
        attach(&capture.socket, &program(filter)?)?;
        Ok(capture)
    }

    /// The file's head.
    pub fn head(&mut self) -> Vec<u8> {
        let head = file::head(self.packet.len());
        self.bytes += head.len() as u64;
        head
    }

    /// Packets that have come, once there are some; and whether that was the last of them.
    pub async fn next(&mut self) -> anyhow::Result<(Vec<u8>, Option<Full>)> {
        loop {
            let mut chunk = Vec::new();
            let full = self.fill(&mut chunk)?;
            if !chunk.is_empty() || full.is_some() {
                return Ok((chunk, full));
            }
            self.wait().await.context("waiting for packets")?;
        }
    }

    /// Until a packet is there. What tokio notes of a socket it forgets when a call finds nothing.
    async fn wait(&self) -> io::Result<()> {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peek = || recv(self.socket.as_raw_fd(), &mut [0; 1], flags).map_err(io::Error::from);
        loop {
            self.socket.readable().await?;
            match self.socket.try_io(Interest::READABLE, peek) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An error is met by the read that follows.
                _ => return Ok(()),
            }
        }
    }

    /// Takes what waits, as much as goes into a piece.
    pub fn fill(&mut self, chunk: &mut Vec<u8>) -> anyhow::Result<Option<Full>> {
        while chunk.len() < CHUNK_BYTES {
            if self.packets >= self.limits.packets {
                return Ok(Some(Full::Packets));
            }
            let Some(packet) = self.receive()? else { return Ok(None) };
            let before = chunk.len();
            file::packet(chunk, &packet, &self.packet);
            let length = (chunk.len() - before) as u64;
            if self.bytes + length > self.limits.bytes {
                chunk.truncate(before);
                return Ok(Some(Full::Bytes));
            }
            self.bytes += length;
            self.packets += 1;
        }
        Ok(None)
    }

    /// The next packet that waits; its bytes are in `self.packet`.
    fn receive(&mut self) -> anyhow::Result<Option<file::Packet>> {
        let mut space = nix::cmsg_space!(TimeSpec, u32);
        let mut into = [IoSliceMut::new(&mut self.packet)];
        // With MSG_TRUNC the kernel tells how long the packet was, whatever there was room for.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let fd = self.socket.as_raw_fd();
        let message = loop {
            match recvmsg::<LinkAddr>(fd, &mut into, Some(&mut space), flags) {
                Ok(message) => break message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                // A link went down; others go on.
                Err(Errno::ENETDOWN) => {}
                Err(error) => return Err(io::Error::from(error)).context("receiving a packet"),
            }
        };
        let (mut time, mut dropped) = (None, None);
        for more in message.cmsgs().context("reading a packet's time")? {
            match more {
                ControlMessageOwned::ScmTimestampns(stamp) => time = Some(stamp),
                ControlMessageOwned::RxqOvfl(count) => dropped = Some(count),
                _ => {}
            }
        }
        let (length, link) = (message.bytes, message.address);
        self.dropped = dropped.map_or(self.dropped, u64::from);
        let time = time.map_or(Duration::ZERO, |stamp| Duration::new(stamp.tv_sec().unsigned_abs(), stamp.tv_nsec() as u32));
        Ok(Some(file::Packet { time, length, link: link.context("a packet of no link")? }))
    }
}

fn attach(socket: &impl AsFd, program: &[Instruction]) -> anyhow::Result<()> {
    ensure!(program.len() <= 4096, "a filter of {} instructions; the kernel takes 4096", program.len());
    let filter: Vec<SockFilter> = program.iter().map(|one| SockFilter::new(one.code, one.yes, one.no, one.value)).collect();
    SockRef::from(socket).attach_filter(&filter).context("giving the filter to the kernel")
}
