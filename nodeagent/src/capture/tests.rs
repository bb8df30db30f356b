mod figures;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::filter::Protocol;
use super::*;
use crate::controllers::namespace::Namespace;

const ALL: Filter = Filter { link: None, protocol: None, host: None, port: None };

fn limits() -> Limits {
    Limits { packets: u64::MAX, bytes: 1 << 20, time: Duration::from_secs(60), packet_bytes: PACKET_BYTES_MOST }
}

#[test]
fn filters_as_the_kernel_gets_them() {
    let network = |text: &str| Some(text.parse().unwrap());
    let mut text = String::new();
    for (name, filter) in [
        ("nothing", Filter::NOTHING),
        ("all", ALL),
        ("ARP", Filter { protocol: Some(Protocol::Arp), ..ALL }),
        ("ICMP on link 3", Filter { link: Some(3), protocol: Some(Protocol::Icmp), ..ALL }),
        ("UDP port 53", Filter { protocol: Some(Protocol::Udp), port: Some(53), ..ALL }),
        ("192.0.2.0/24", Filter { host: network("192.0.2.0/24"), ..ALL }),
        ("2001:db8::7 port 443", Filter { host: network("2001:db8::7/128"), port: Some(443), ..ALL }),
    ] {
        text.push_str(&format!("{name}\n"));
        for line in program(&filter).unwrap() {
            text.push_str(&format!("{line}\n"));
        }
    }
    crate::golden::check("src/capture/golden/filters.txt", &text);
}

/// A packet of a file: link, protocol of Ethernet, direction, and its bytes.
#[derive(Debug, PartialEq)]
struct Read {
    link: u32,
    ethertype: u16,
    kind: u8,
    length: u32,
    bytes: Vec<u8>,
}

fn read(file: &[u8]) -> Vec<Read> {
    let little = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut rest = file;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let kept = little(&rest[8..12]) as usize;
        let (packet, after) = rest[16..].split_at(kept);
        packets.push(Read {
            link: u32::from_be_bytes(packet[4..8].try_into().unwrap()),
            ethertype: u16::from_be_bytes(packet[..2].try_into().unwrap()),
            kind: packet[10],
            length: little(&rest[12..16]) - 20,
            bytes: packet[20..].to_vec(),
        });
        assert!(little(&rest[..4]) > 1_700_000_000, "a time of our days");
        rest = after;
    }
    packets
}

/// A machine whose loopback has addresses of both families; needs root and iproute2.
struct Site {
    namespace: Namespace,
}

impl Site {
    fn new() -> Site {
        let namespace = Namespace::new();
        namespace.run("ip link set lo up");
        namespace.run("ip address add 192.0.2.1/32 dev lo");
        namespace.run("ip address add 2001:db8::1/128 dev lo nodad");
        namespace.run("ip link add other type bridge");
        Site { namespace }
    }

    /// What is captured of datagrams to these.
    fn of(&self, filter: Filter, limits: Limits, to: &[(&str, &[u8])], wait: bool) -> (Vec<Read>, Option<Full>) {
        self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _inside = runtime.enter();
            let mut capture = Capture::start(&filter, limits).unwrap();
            let head = capture.head();
            assert_eq!((&head[..4], head.len()), ([0x4d, 0x3c, 0xb2, 0xa1].as_slice(), 24));
            for (address, bytes) in to {
                let to: SocketAddr = address.parse().unwrap();
                let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
                UdpSocket::bind(SocketAddr::new(any, 0)).unwrap().send_to(bytes, to).unwrap();
            }
            // That packets go out is seen before the call returns; that they come in may be later.
            let mut file = Vec::new();
            let mut full = capture.fill(&mut file).unwrap();
            if wait && file.is_empty() {
                let came = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), capture.next()).await });
                (file, full) = came.expect("nothing comes").unwrap();
            }
            (read(&file), full)
        })
    }

    /// How many of the packets to each pass the filter: those that go out.
    fn passing(&self, filter: Filter) -> Vec<usize> {
        const TO: [&str; 4] = ["192.0.2.1:53", "192.0.2.1:54", "[2001:db8::1]:53", "127.0.0.1:53"];
        // That nobody listens is told with the packet itself in ICMP.
        let udp = |packet: &Read| packet.bytes[if packet.ethertype == 0x0800 { 9 } else { 6 }] == 17;
        let outgoing = |packet: &Read| packet.kind == 4 && udp(packet) && packet.bytes.ends_with(b"what is asked");
        TO.map(|to| self.of(filter.clone(), limits(), &[(to, b"what is asked")], false).0.into_iter().filter(outgoing).count()).into()
    }
}

#[test]
fn the_kernel_picks_packets() {
    let site = Site::new();
    let host = |text: &str| Filter { host: Some(text.parse().unwrap()), ..ALL };
    let lo = site.namespace.enter(|| nix::net::if_::if_nametoindex("lo").unwrap());
    let other = site.namespace.enter(|| nix::net::if_::if_nametoindex("other").unwrap());
    for (filter, passing) in [
        (ALL, [1, 1, 1, 1]),
        (Filter::NOTHING, [0, 0, 0, 0]),
        (Filter { link: Some(lo), ..ALL }, [1, 1, 1, 1]),
        (Filter { link: Some(other), ..ALL }, [0, 0, 0, 0]),
        (Filter { port: Some(53), ..ALL }, [1, 0, 1, 1]),
        (Filter { protocol: Some(Protocol::Udp), port: Some(54), ..ALL }, [0, 1, 0, 0]),
        (Filter { protocol: Some(Protocol::Tcp), ..ALL }, [0, 0, 0, 0]),
        (Filter { protocol: Some(Protocol::Arp), ..ALL }, [0, 0, 0, 0]),
        (host("192.0.2.1/32"), [1, 1, 0, 0]),
        (host("192.0.2.0/25"), [1, 1, 0, 0]),
        (host("192.0.3.0/24"), [0, 0, 0, 0]),
        (host("0.0.0.0/0"), [1, 1, 0, 1]),
        (host("2001:db8::/33"), [0, 0, 1, 0]),
        (host("2001:db8::1/128"), [0, 0, 1, 0]),
        (host("2001:db8::2/128"), [0, 0, 0, 0]),
        (Filter { port: Some(54), ..host("192.0.2.1/32") }, [0, 1, 0, 0]),
    ] {
        assert_eq!(site.passing(filter.clone()), passing, "{filter:?}");
    }
    // Nobody listens at the port: that is told by ICMP.
    let (told, _) = site.of(Filter { protocol: Some(Protocol::Icmp), ..ALL }, limits(), &[("192.0.2.1:53", b"")], true);
    assert!(!told.is_empty() && told.iter().all(|packet| packet.ethertype == 0x0800 && packet.bytes[9] == 1), "{told:?}");
}

#[test]
fn the_machine_api_is_left_out_but_by_name() {
    let site = Site::new();
    let knock = |filter: Filter| {
        site.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _inside = runtime.enter();
            let mut capture = Capture::start(&filter, limits()).unwrap();
            for to in ["192.0.2.1:50000", "[2001:db8::1]:50000"] {
                assert!(std::net::TcpStream::connect(to).is_err(), "nobody listens");
            }
            let mut file = Vec::new();
            capture.fill(&mut file).unwrap();
            read(&file).len()
        })
    };
    assert_eq!(knock(ALL), 0);
    assert_eq!(knock(Filter { protocol: Some(Protocol::Tcp), ..ALL }), 0);
    assert!(knock(Filter { port: Some(50000), ..ALL }) >= 8, "two packets there and back, seen at both ends");
}

#[test]
fn what_is_kept_has_bounds() {
    let site = Site::new();
    let to: [(&str, &[u8]); 2] = [("192.0.2.1:53", &[7; 1000]), ("192.0.2.1:53", &[8; 1000])];
    let filter = Filter { protocol: Some(Protocol::Udp), ..ALL };
    let (packets, full) = site.of(filter.clone(), Limits { packets: 1, ..limits() }, &to, false);
    assert_eq!((packets.len(), full), (1, Some(Full::Packets)));
    assert_eq!((packets[0].length, packets[0].bytes.len(), packets[0].link), (1028, 1028, 1));
    let (packets, full) = site.of(filter.clone(), Limits { bytes: 1500, ..limits() }, &to, false);
    assert_eq!((packets.len(), full), (1, Some(Full::Bytes)));
    let (packets, full) = site.of(filter, Limits { packet_bytes: 64, ..limits() }, &to, false);
    assert!(packets.len() >= 2 && full.is_none(), "each is seen going out, and coming in: {packets:?}");
    assert!(packets.iter().all(|packet| packet.length == 1028 && packet.bytes.len() == 64), "{packets:?}");
}
