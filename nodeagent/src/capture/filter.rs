//! Which packets are wanted, as a program for the kernel's filter machine (classic BPF, Documentation/networking/filter.rst). Packets begin with their
//! network header.

use std::fmt;
use std::net::IpAddr;

use anyhow::Context;
use api::PORT as MACHINE_API_PORT;
use ipnet::IpNet;

/// All that is given must be true of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Index of the link.
    pub link: Option<u32>,
    pub protocol: Option<Protocol>,
    /// At either end.
    pub host: Option<IpNet>,
    /// At either end.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    /// Of either family.
    Icmp,
    Arp,
}

/// An instruction; `yes` and `no` are how many of the next ones a comparison leaps over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub yes: u8,
    pub no: u8,
    pub value: u32,
}

// linux/bpf_common.h, by what they do.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
const HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const IS: u16 = 0x15;
const HAS_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// What the kernel knows of a packet besides its bytes (linux/filter.h, SKF_AD_OFF).
const KNOWN: u32 = 0xffff_f000;
const ETHERTYPE: u32 = KNOWN;
const LINK: u32 = KNOWN + 8;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const TCP: u32 = 6;
const UDP: u32 = 17;
const SCTP: u32 = 132;
const ICMP: u32 = 1;
const ICMPV6: u32 = 58;

/// Where the parts of a header are.
struct Family {
    protocol: u32,
    source: u32,
    destination: u32,
    icmp: u32,
    ipv6: bool,
}

const FAMILY_V4: Family = Family { protocol: 9, source: 12, destination: 16, icmp: ICMP, ipv6: false };
/// Extension headers are not looked behind.
const FAMILY_V6: Family = Family { protocol: 6, source: 8, destination: 24, icmp: ICMPV6, ipv6: true };
const V6_HEADER: u32 = 40;
const V4_FRAGMENT: u32 = 6;
const V4_FRAGMENT_OFFSET: u32 = 0x1fff;

impl Filter {
    /// No link has this number.
    pub const NOTHING: Filter = Filter { link: Some(0), protocol: None, host: None, port: None };
}

pub fn program(filter: &Filter) -> anyhow::Result<Vec<Instruction>> {
    let mut lines = Lines::default();
    let v6 = lines.place();
    let v4 = lines.place();
    if let Some(index) = filter.link {
        lines.load(LOAD_WORD, LINK);
        lines.or_leave(index);
    }
    lines.load(LOAD_WORD, ETHERTYPE);
    lines.leap(IS, IPV4, Some(v4), None);
    lines.leap(IS, IPV6, Some(v6), None);
    match filter.protocol {
        Some(Protocol::Arp) => lines.leap(IS, ARP, Some(TAKE), Some(LEAVE)),
        None if filter.host.is_none() && filter.port.is_none() => lines.end(TAKE),
        _ => lines.end(LEAVE),
    }
    lines.here(v4);
    family(&mut lines, filter, &FAMILY_V4);
    lines.here(v6);
    family(&mut lines, filter, &FAMILY_V6);
    lines.assembled().context("the filter is too long")
}

fn family(lines: &mut Lines, filter: &Filter, family: &Family) {
    let number = match filter.protocol {
        None => None,
        Some(Protocol::Tcp) => Some(TCP),
        Some(Protocol::Udp) => Some(UDP),
        Some(Protocol::Sctp) => Some(SCTP),
        Some(Protocol::Icmp) => Some(family.icmp),
        Some(Protocol::Arp) => return lines.end(LEAVE),
    };
    if let Some(number) = number {
        lines.load(LOAD_BYTE, family.protocol);
        lines.or_leave(number);
    }
    if let Some(host) = filter.host {
        if host.addr().is_ipv6() != family.ipv6 {
            return lines.end(LEAVE);
        }
        let (source, found) = (lines.place(), lines.place());
        address(lines, &host, family.source, source);
        lines.leap(IS, 0, Some(found), Some(found));
        lines.here(source);
        address(lines, &host, family.destination, LEAVE);
        lines.here(found);
    }
    match filter.port {
        Some(port) => {
            let with_ports = lines.place();
            lines.load(LOAD_BYTE, family.protocol);
            for number in [TCP, UDP] {
                lines.leap(IS, number, Some(with_ports), None);
            }
            lines.or_leave(SCTP);
            lines.here(with_ports);
            ports(lines, family, u32::from(port), TAKE, LEAVE);
        }
        // What shows the packets would be shown in turn, without end.
        None => {
            lines.load(LOAD_BYTE, family.protocol);
            lines.leap(IS, TCP, None, Some(TAKE));
            ports(lines, family, u32::from(MACHINE_API_PORT), LEAVE, TAKE);
        }
    }
}

/// Goes on where the address is in the network, else there.
fn address(lines: &mut Lines, network: &IpNet, offset: u32, other: Place) {
    let words = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => vec![u32::from(ip)],
        IpAddr::V6(ip) => {
            ip.octets().chunks_exact(4).map(|four| four.iter().fold(0, |word, byte| (word << 8) | u32::from(*byte))).collect()
        }
    };
    let of = words(network.network()).into_iter().zip(words(network.netmask()));
    for (offset, (word, mask)) in (offset..).step_by(4).zip(of).filter(|(_, (_, mask))| *mask != 0) {
        lines.load(LOAD_WORD, offset);
        if mask != u32::MAX {
            lines.load(AND, mask);
        }
        lines.leap(IS, word, None, Some(other));
    }
}

/// One of a packet's two ports. Only the first fragment has them.
fn ports(lines: &mut Lines, family: &Family, port: u32, is: Place, is_not: Place) {
    let (load, offset) = match family.ipv6 {
        true => (LOAD_HALF, V6_HEADER),
        false => {
            lines.load(LOAD_HALF, V4_FRAGMENT);
            lines.leap(HAS_BITS, V4_FRAGMENT_OFFSET, Some(is_not), None);
            lines.load(HEADER_LENGTH, 0);
            (LOAD_HALF_BEHIND_HEADER, 0)
        }
    };
    lines.load(load, offset);
    lines.leap(IS, port, Some(is), None);
    lines.load(load, offset + 2);
    lines.leap(IS, port, Some(is), Some(is_not));
}

/// Where a comparison leads to.
type Place = usize;
const TAKE: Place = 0;
const LEAVE: Place = 1;

#[derive(Debug)]
struct Line {
    code: u16,
    value: u32,
    /// None: the next line.
    yes: Option<Place>,
    no: Option<Place>,
}

/// A program with names for its places.
#[derive(Debug)]
struct Lines {
    lines: Vec<Line>,
    /// By place: the line that comes there.
    places: Vec<usize>,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { lines: Vec::new(), places: vec![0; 2] }
    }
}

impl Lines {
    fn place(&mut self) -> Place {
        self.places.push(0);
        self.places.len() - 1
    }

    fn here(&mut self, place: Place) {
        self.places[place] = self.lines.len();
    }

    fn load(&mut self, code: u16, value: u32) {
        self.lines.push(Line { code, value, yes: None, no: None });
    }

    fn leap(&mut self, code: u16, value: u32, yes: Option<Place>, no: Option<Place>) {
        self.lines.push(Line { code, value, yes, no });
    }

    fn or_leave(&mut self, value: u32) {
        self.leap(IS, value, None, Some(LEAVE));
    }

    fn end(&mut self, place: Place) {
        self.leap(IS, 0, Some(place), Some(place));
    }

    /// None where a leap is wider than the machine can.
    fn assembled(mut self) -> Option<Vec<Instruction>> {
        for (place, value) in [(TAKE, u32::MAX), (LEAVE, 0)] {
            self.here(place);
            self.load(RETURN, value);
        }
        let over = |line: usize, place: Option<Place>| match place {
            None => Some(0),
            Some(place) => u8::try_from(self.places[place].checked_sub(line + 1)?).ok(),
        };
        let numbered = self.lines.iter().enumerate();
        let made = numbered.map(|(number, line)| {
            Some(Instruction { code: line.code, yes: over(number, line.yes)?, no: over(number, line.no)?, value: line.value })
        });
        made.collect()
    }
}

impl fmt::Display for Instruction {
    /// As `tcpdump -ddd` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.code, self.yes, self.no, self.value)
    }
}
