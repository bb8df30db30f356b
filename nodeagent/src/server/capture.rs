//! Service Capture: what passes the machine's links.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::v1::capture_server;
use api::v1::{PacketFilter, PacketLimits, PacketProtocol, PacketsEnd, PacketsRequest, PacketsResponse};
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Sink, answer};
use crate::capture::filter::{Filter, Protocol};
use crate::capture::{Capture as Packets, Full, Limits, PACKET_BYTES_MOST};
use crate::refusal::Refusal;

/// Captures at a time: each may take a processor and the socket's buffer.
const AT_A_TIME: usize = 4;
const USUAL_BYTES: u64 = 100 << 20;
const MOST_BYTES: u64 = 1 << 30;
const USUAL_TIME: Duration = Duration::from_secs(60);
const MOST_TIME: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Capture(Arc<Semaphore>);

impl Default for Capture {
    fn default() -> Capture {
        Capture(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

#[tonic::async_trait]
impl capture_server::Capture for Capture {
    type PacketsStream = Answers<PacketsResponse>;

    async fn packets(&self, request: Request<PacketsRequest>) -> Result<Response<Self::PacketsStream>, Status> {
        let PacketsRequest { filter, limits } = request.into_inner();
        let filter = read_filter(&filter.unwrap_or_default())?;
        let limits = read_limits(&limits.unwrap_or_default())?;
        let permit = self.0.clone().try_acquire_owned().map_err(|_| {
            let problem = format!("{AT_A_TIME} captures are under way");
            Refusal::state("TOO_MANY_CAPTURES", problem, "wait until one of them ends, or end it")
        })?;
        let until = Instant::now() + limits.time;
        let packets = Packets::start(&filter, limits).map_err(Refusal::Internal)?;
        Ok(Response::new(answer(|sink| send(packets, until, permit, sink))))
    }
}

async fn send(mut packets: Packets, until: Instant, _one: OwnedSemaphorePermit, sink: Sink<PacketsResponse>) -> Result<(), Ended> {
    let head = packets.head();
    sink.send(piece(&packets, head, PacketsEnd::Unspecified)).await?;
    let end = loop {
        let (chunk, full) = tokio::select! {
            came = packets.next() => came?,
            () = sleep_until(until) => break PacketsEnd::Time,
            gone = sink.gone() => return Err(gone.into()),
        };
        sink.send(piece(&packets, chunk, PacketsEnd::Unspecified)).await?;
        match full {
            Some(Full::Packets) => break PacketsEnd::Packets,
            Some(Full::Bytes) => break PacketsEnd::Bytes,
            // Where packets never cease, there is always one that came.
            None if Instant::now() >= until => break PacketsEnd::Time,
            None => {}
        }
    };
    Ok(sink.send(piece(&packets, Vec::new(), end)).await?)
}

fn piece(packets: &Packets, chunk: Vec<u8>, end: PacketsEnd) -> PacketsResponse {
    PacketsResponse { chunk, packets: packets.packets, dropped: packets.dropped, end: end.into() }
}

fn read_filter(given: &PacketFilter) -> Result<Filter, Refusal> {
    let link =
        match given.link.as_str() {
            "" => None,
            name => Some(nix::net::if_::if_nametoindex(name).map_err(|_| {
                Refusal::field("filter.link", format!("{name:?}; expected a link of the machine: see machinectl get links"))
            })?),
        };
    let protocol = match given.protocol() {
        // A number that is not known reads as unspecified.
        PacketProtocol::Unspecified if given.protocol != 0 => {
            let expected = format!("{}; expected one of this API", given.protocol);
            return Err(Refusal::field("filter.protocol", expected));
        }
        PacketProtocol::Unspecified => None,
        PacketProtocol::Tcp => Some(Protocol::Tcp),
        PacketProtocol::Udp => Some(Protocol::Udp),
        PacketProtocol::Sctp => Some(Protocol::Sctp),
        PacketProtocol::Icmp => Some(Protocol::Icmp),
        PacketProtocol::Arp => Some(Protocol::Arp),
    };
    let port = match given.port {
        0 => None,
        port => Some(u16::try_from(port).map_err(|_| Refusal::field("filter.port", format!("{port}; expected 1 to 65535")))?),
    };
    let host = match given.host.as_str() {
        "" => None,
        text => {
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let expected = || format!("{text:?}; expected an address or a network, such as 192.0.2.0/24");
            Some(network.ok_or_else(|| Refusal::field("filter.host", expected()))?)
        }
    };
    let portless = matches!(protocol, Some(Protocol::Icmp | Protocol::Arp));
    if port.is_some() && portless {
        return Err(Refusal::field("filter.port", "a port of a protocol without ports; expected TCP, UDP, SCTP or none"));
    }
    if host.is_some() && protocol == Some(Protocol::Arp) {
        return Err(Refusal::field("filter.host", "ARP is no IP; expected no host with it"));
    }
    Ok(Filter { link, protocol, host, port })
}

fn read_limits(given: &PacketLimits) -> Result<Limits, Refusal> {
    let bytes = match given.bytes {
        0 => USUAL_BYTES,
        bytes if bytes <= MOST_BYTES => bytes,
        bytes => return Err(Refusal::field("limits.bytes", format!("{bytes}; expected {MOST_BYTES} at most"))),
    };
    let time = match &given.time {
        None => USUAL_TIME,
        Some(time) => Duration::try_from(*time)
            .ok()
            .filter(|time| !time.is_zero() && *time <= MOST_TIME)
            .ok_or_else(|| Refusal::field("limits.time", format!("{time}; expected more than 0s and at most {}s", MOST_TIME.as_secs())))?,
    };
    let packets = if given.packets == 0 { u64::MAX } else { given.packets };
    let packet_bytes = match given.packet_bytes as usize {
        0 => PACKET_BYTES_MOST,
        bytes => bytes.min(PACKET_BYTES_MOST),
    };
    Ok(Limits { packets, bytes, time, packet_bytes })
}
