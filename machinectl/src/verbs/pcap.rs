//! `pcap`: packets as they pass a machine's links.

use std::fs::File;
use std::io::{IsTerminal, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use api::v1::{PacketFilter, PacketLimits, PacketProtocol, PacketsEnd, PacketsRequest, PacketsResponse};
use clap::{Args, ValueEnum};
use machine::config::{ByteSize, Duration, HostPort};
use tokio_stream::StreamExt;

use crate::cli::World;
use crate::failure::Failure;
use crate::output::{tell, write_bytes};
use crate::session::Session;

/// Capture packets that pass a machine's links, as a file for Wireshark and tcpdump
#[derive(Debug, Args)]
#[command(
    after_help = "What pods send without encryption is in it. Packets of the machine API itself are left out but with --port 50000.\n\
    \n\
    machinectl pcap -n worker-1 --link cni0 --port 53 -w dns.pcap\n\
    machinectl pcap -n worker-1 --host 192.0.2.0/24 --for 10m | tcpdump -n -r -"
)]
pub struct Pcap {
    /// Only what comes in or goes out by this link: see machinectl get links
    #[arg(short, long)]
    link: Option<String>,
    /// Only this protocol; icmp is of both families
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Only what comes from or goes to this address or network
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Only TCP, UDP and SCTP with this port at either end
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// End after so many packets
    #[arg(short, long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, an hour at most
    #[arg(long = "for", value_name = "TIME", default_value = "1m")]
    time: Duration,
    /// End when the file is so long, 1GiB at most
    #[arg(long, value_name = "SIZE", default_value = "100MiB")]
    size: ByteSize,
    /// Keep so many bytes of each packet [default: all]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snap: Option<u32>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Arp,
}

impl Pcap {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        if self.write.is_none() && stdout().is_terminal() {
            let failure = Failure::usage("--write", "packets are no text for a terminal");
            return Err(failure.remedy("name a file, or pipe them: machinectl pcap ... | tcpdump -n -r -"));
        }
        let capture = async |session: Session| {
            let mut to = self.open()?;
            let mut answers = session.ask(session.capture().packets(self.request())).await?;
            let mut last = PacketsResponse::default();
            while let Some(answer) = answers.next().await {
                let answer = answer.map_err(|status| session.failed(&status))?;
                to.write(&answer.chunk)?;
                last = PacketsResponse { chunk: Vec::new(), ..answer };
            }
            Ok((session.node.clone(), last))
        };
        // It has an end of its own.
        let (node, last) = world.connection.one(None, capture).await?;
        if !world.quiet {
            tell(&summary(&node, &last));
        }
        Ok(())
    }

    fn request(&self) -> PacketsRequest {
        let protocol = self.protocol.map_or(PacketProtocol::Unspecified, Protocol::proto);
        let filter = PacketFilter {
            link: self.link.clone().unwrap_or_default(),
            protocol: protocol.into(),
            host: self.host.clone().unwrap_or_default(),
            port: self.port.map(u32::from).unwrap_or_default(),
        };
        let limits = PacketLimits {
            packets: self.count.unwrap_or_default(),
            bytes: self.size.0,
            time: prost_types::Duration::try_from(self.time.0).ok(),
            packet_bytes: self.snap.unwrap_or_default(),
        };
        PacketsRequest { filter: Some(filter), limits: Some(limits) }
    }

    fn open(&self) -> Result<Target, Failure> {
        let Some(path) = &self.write else { return Ok(Target::Output) };
        let mut options = File::options();
        // Others on this computer need not see it.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        Ok(Target::File(path.clone(), file.map_err(|error| Failure::of(path.display(), &error))?))
    }
}

impl Protocol {
    fn proto(self) -> PacketProtocol {
        match self {
            Protocol::Tcp => PacketProtocol::Tcp,
            Protocol::Udp => PacketProtocol::Udp,
            Protocol::Sctp => PacketProtocol::Sctp,
            Protocol::Icmp => PacketProtocol::Icmp,
            Protocol::Arp => PacketProtocol::Arp,
        }
    }
}

/// Where the packets go. What came before a connection broke is there.
enum Target {
    Output,
    File(PathBuf, File),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Target::Output => write_bytes(bytes),
            Target::File(path, file) => file.write_all(bytes).map_err(|error| Failure::of(path.display(), &error))?,
        }
        Ok(())
    }
}

fn summary(node: &HostPort, last: &PacketsResponse) -> String {
    let why = match last.end() {
        PacketsEnd::Packets => "as many as were asked for",
        PacketsEnd::Bytes => "the file is as long as it may be (--size)",
        PacketsEnd::Time => "the time is over (--for)",
        PacketsEnd::Unspecified => "the machine ended it",
    };
    let lost = match last.dropped {
        0 => String::new(),
        dropped => format!("; {dropped} more came faster than they were taken"),
    };
    format!("{node}: {} packets: {why}{lost}", last.packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told() {
        let node = crate::connection::node("cp-1").expect("a node");
        let last = PacketsResponse { chunk: Vec::new(), packets: 7, dropped: 0, end: PacketsEnd::Time.into() };
        assert_eq!(summary(&node, &last), "cp-1:50000: 7 packets: the time is over (--for)");
        let last = PacketsResponse { dropped: 3, end: PacketsEnd::Packets.into(), ..last };
        assert_eq!(summary(&node, &last), "cp-1:50000: 7 packets: as many as were asked for; 3 more came faster than they were taken");
    }
}
