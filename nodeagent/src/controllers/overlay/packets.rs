//! Packets between pods of tests: each is looked at where it arrives, and answered.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::controllers::namespace::Namespace;

/// For what takes milliseconds where it works.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Of bodies: of a small packet, of one that just fits, and of one that goes in pieces.
const SIZES: [usize; 3] = [56, 1400, 4000];

#[derive(Clone, Copy)]
pub struct End<'a> {
    pub pod: &'a Namespace,
    pub address: IpAddr,
}

/// Every kind, from both ends.
pub fn exchange(one: End<'_>, other: End<'_>) -> anyhow::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let between = || format!("from {} to {}", from.address, to.address);
        for size in SIZES {
            ping(from, to, size).with_context(|| format!("ping of {size} bytes {}", between()))?;
            udp(from, to, size).with_context(|| format!("{size} bytes by UDP {}", between()))?;
        }
        tcp(from, to).with_context(|| format!("TCP {}", between()))?;
    }
    Ok(())
}

/// An echo request and its answer (RFC 792; RFC 4443, 4).
fn ping(from: End<'_>, to: End<'_>, size: usize) -> anyhow::Result<()> {
    let (domain, protocol, request, reply) = match to.address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = from.pod.enter(|| -> anyhow::Result<UdpSocket> {
        // Whose groups may send echo requests, and nothing else: the kernel does checksum and identifier.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
        Ok(Socket::new(domain, Type::DGRAM, Some(protocol))?.into())
    })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(SocketAddr::new(to.address, 0))?;
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 1];
    message.resize(8 + size, 7);
    socket.send(&message)?;
    let mut answer = vec![0; message.len() + 1];
    let length = socket.recv(&mut answer)?;
    ensure!(length == message.len() && answer[0] == reply && answer[8..length] == message[8..], "{:?}", &answer[..length.min(16)]);
    Ok(())
}

/// A datagram, and the same back.
fn udp(from: End<'_>, to: End<'_>, size: usize) -> anyhow::Result<()> {
    let bind = |end: End<'_>| -> anyhow::Result<UdpSocket> {
        let socket = end.pod.enter(|| UdpSocket::bind(SocketAddr::new(end.address, 0)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let (asking, answering) = (bind(from)?, bind(to)?);
    let carry = |from: &UdpSocket, to: &UdpSocket| -> anyhow::Result<()> {
        let (sent, mut received) = (vec![7; size], vec![0; size + 1]);
        from.send_to(&sent, to.local_addr()?)?;
        let (length, sender) = to.recv_from(&mut received)?;
        ensure!(received[..length] == sent && sender == from.local_addr()?, "{length} bytes from {sender}");
        Ok(())
    };
    carry(&asking, &answering)?;
    carry(&answering, &asking)
}

/// A connection that carries more than a packet.
pub fn tcp(from: End<'_>, to: End<'_>) -> anyhow::Result<()> {
    static LARGE: [u8; 100_000] = [7; 100_000];
    let listener = to.pod.enter(|| TcpListener::bind(SocketAddr::new(to.address, 0)))?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let (done, answered) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let Ok((mut stream, peer)) = listener.accept() else { return };
            let _ = stream.write_all(&LARGE);
            let _ = done.send(peer.ip());
        });
        let read = from.pod.enter(|| -> anyhow::Result<usize> {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            Ok(stream.read_to_end(&mut received)?)
        });
        if read.is_err() {
            // Ends the listener's wait.
            to.pod.enter(|| drop(TcpStream::connect_timeout(&address, PATIENCE)));
        }
        let read = read?;
        ensure!(read == LARGE.len(), "{read} bytes");
        let peer = answered.recv()?;
        ensure!(peer == from.address, "it came from {peer}");
        Ok(())
    })
}
