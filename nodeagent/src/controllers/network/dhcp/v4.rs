//! What a client asks of servers, and what they grant, as messages of DHCPv4 (RFC 2131, RFC 2132).

mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dhcproto::v4::{DhcpOption, DhcpOptions, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use ipnet::{IpNet, Ipv4Net};

use super::client::{Ask, Grant, Reply, Server, Times};
use crate::packets::Mac;
use crate::resources::network::{Lease, LeaseRoute};
pub use wire::Wire;

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;

/// ARP's number of Ethernet; it also says what a client identifier is (RFC 2132, 9.14).
const ETHERNET: u8 = 1;

/// What is asked of a server for a lease.
const WANTED: [OptionCode; 10] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::InterfaceMtu,
    OptionCode::NtpServers,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

pub fn write(ask: &Ask, number: u32, mac: Mac) -> anyhow::Result<Vec<u8>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let own = match ask {
        Ask::Renew { address, .. } | Ask::Rebind { address } => v4(*address)?,
        _ => none,
    };
    let mut message = Message::new_with_id(number, own, none, none, none, &mac);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientIdentifier([&[ETHERNET][..], &mac].concat()));
    options.insert(DhcpOption::MessageType(match ask {
        Ask::Discover => MessageType::Discover,
        Ask::Decline { .. } => MessageType::Decline,
        _ => MessageType::Request,
    }));
    if let Ask::Request { address, .. } | Ask::Confirm { address } | Ask::Decline { address, .. } = ask {
        options.insert(DhcpOption::RequestedIpAddress(v4(*address)?));
    }
    if let Ask::Request { server, .. } | Ask::Decline { server, .. } = ask {
        options.insert(DhcpOption::ServerIdentifier(v4(server.address)?));
    }
    if !matches!(ask, Ask::Decline { .. }) {
        options.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
        // What an Ethernet packet holds beside the headers of IP and UDP.
        options.insert(DhcpOption::MaxMessageSize(1472));
    }
    message.to_vec().context("writing a DHCP message")
}

fn v4(address: IpAddr) -> anyhow::Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("{address} in a conversation of DHCPv4"),
    }
}

/// `None` for what is not an answer to the question of this number. An answer that no lease can be made of is an error.
pub fn read(bytes: &[u8], number: u32, mac: Mac) -> anyhow::Result<Option<Reply>> {
    let bytes = understood(bytes).context("reading a DHCP message")?;
    let message = Message::decode(&mut Decoder::new(&bytes)).context("reading a DHCP message")?;
    // The length is what the sender says: there may not be as much.
    let is_for_us = usize::from(message.hlen()) == mac.len() && message.chaddr() == mac;
    if message.opcode() != Opcode::BootReply || message.xid() != number || !is_for_us {
        return Ok(None);
    }
    Ok(match message.opts().msg_type() {
        Some(MessageType::Offer) => Some(Reply::Offer(grant(&message)?)),
        Some(MessageType::Ack) => Some(Reply::Ack(grant(&message)?)),
        Some(MessageType::Nak) => Some(Reply::Nak),
        _ => None,
    })
}

/// What the library is given of a message: the options that are read here, each as long as it has to be. It ends the program where a neighbour on the
/// link lies about lengths.
fn understood(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    /// Fixed fields, and the cookie that options follow.
    const HEADER_BYTES: usize = 240;
    const PAD: u8 = 0;
    const END: u8 = 255;
    let (header, mut options) = bytes.split_at_checked(HEADER_BYTES).context("a message without options")?;
    let mut kept = header.to_vec();
    while let Some((&code, rest)) = options.split_first().filter(|(code, _)| **code != END) {
        if code == PAD {
            options = rest;
            continue;
        }
        let (length, rest) = rest.split_first().with_context(|| format!("option {code} without a length"))?;
        let (value, rest) = rest.split_at_checked((*length).into()).with_context(|| format!("option {code} is cut short"))?;
        options = rest;
        // RFC 2132 and RFC 3442.
        let is_whole = match code {
            1 | 51 | 54 | 58 | 59 => value.len() == 4,
            26 => value.len() == 2,
            53 => value.len() == 1,
            3 | 6 | 42 => !value.is_empty() && value.len().is_multiple_of(4),
            12 | 121 => !value.is_empty(),
            _ => continue,
        };
        ensure!(is_whole, "option {code} has {length} bytes");
        kept.extend_from_slice(&[code, *length]);
        kept.extend_from_slice(value);
    }
    kept.push(END);
    Ok(kept)
}

/// Takes the value of one option.
macro_rules! option {
    ($options:expr, $name:ident) => {
        match $options.get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}

fn grant(message: &Message) -> anyhow::Result<Grant> {
    let options = message.opts();
    let address = message.yiaddr();
    let unusable = address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast();
    ensure!(!unusable, "a server grants {address}; expected the address of one machine");
    let server = *option!(options, ServerIdentifier).context("a server that does not say its address (option 54)")?;
    let mask = option!(options, SubnetMask).copied().unwrap_or(Ipv4Addr::BROADCAST);
    let network = Ipv4Net::with_netmask(address, mask).with_context(|| format!("a server grants {address} with mask {mask}"))?;
    let seconds = *option!(options, AddressLeaseTime).context("a server does not say how long its lease is good (option 51)")?;
    ensure!(seconds > 0, "a server grants {address} for 0 seconds");
    let given = |seconds: Option<&u32>| seconds.map(|seconds| Duration::from_secs((*seconds).into()));
    let addresses = |ips: Option<&Vec<Ipv4Addr>>| ips.into_iter().flatten().copied().map(IpAddr::V4).collect();
    let lease = Lease {
        address: IpNet::V4(network),
        routes: routes(options),
        nameservers: addresses(option!(options, DomainNameServer)),
        time_servers: addresses(option!(options, NtpServers)),
        hostname: option!(options, Hostname).map(|name| name.trim_end_matches('\0').to_owned()).filter(|name| !name.is_empty()),
        mtu: option!(options, InterfaceMtu).copied(),
        server: IpAddr::V4(server),
        seconds,
    };
    let times = times(seconds, given(option!(options, Renewal)), given(option!(options, Rebinding)));
    Ok(Grant { address: address.into(), server: Server { address: server.into(), id: Vec::new() }, times, lease })
}

/// None for a lease without an end.
fn times(seconds: u32, renew: Option<Duration>, rebind: Option<Duration>) -> Option<Times> {
    const ENDLESS: u32 = u32::MAX;
    (seconds != ENDLESS).then(|| Times::until(Duration::from_secs(seconds.into()), renew, rebind))
}

/// Classless routes replace the router option where a server gives both (RFC 3442).
fn routes(options: &DhcpOptions) -> Vec<LeaseRoute> {
    if let Some(classless) = option!(options, ClasslessStaticRoute) {
        let route = |(to, router): &(Ipv4Net, Ipv4Addr)| LeaseRoute {
            to: IpNet::V4(to.trunc()),
            via: Some(IpAddr::V4(*router)).filter(|router| !router.is_unspecified()),
        };
        return classless.iter().map(route).collect();
    }
    let default = |router: &Ipv4Addr| LeaseRoute { to: IpNet::V4(Ipv4Net::default()), via: Some(IpAddr::V4(*router)) };
    option!(options, Router).into_iter().flatten().take(1).map(default).collect()
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    pub const MAC: Mac = [2, 0, 0, 0, 0, 1];

    /// What a server answers: kind, address and further options.
    pub fn reply(kind: MessageType, number: u32, mac: Mac, address: Ipv4Addr, server: Ipv4Addr, more: Vec<DhcpOption>) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(number, none, address, none, none, &mac);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        more.into_iter().for_each(|option| drop(message.opts_mut().insert(option)));
        message.to_vec().unwrap()
    }

    fn granted(more: Vec<DhcpOption>) -> anyhow::Result<Option<Reply>> {
        let bytes = reply(MessageType::Ack, 7, MAC, Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 1), more);
        read(&bytes, 7, MAC)
    }

    #[test]
    fn a_lease_has_what_the_server_gave() {
        let router = Ipv4Addr::new(192, 0, 2, 1);
        let options = vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![router, Ipv4Addr::new(192, 0, 2, 2)]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(192, 0, 2, 3)]),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::AddressLeaseTime(80),
        ];
        let Some(Reply::Ack(grant)) = granted(options.clone()).unwrap() else { panic!("no grant") };
        let seconds = Duration::from_secs;
        assert_eq!(grant.times, Some(Times { renew: seconds(40), rebind: seconds(70), end: seconds(80) }));
        assert_eq!((grant.lease.address.to_string().as_str(), grant.lease.mtu), ("192.0.2.10/24", Some(1400)));
        let default = LeaseRoute { to: "0.0.0.0/0".parse().unwrap(), via: Some(router.into()) };
        assert_eq!(grant.lease.routes, [default]);
        let to: Ipv4Net = "198.51.100.0/24".parse().unwrap();
        let classless = DhcpOption::ClasslessStaticRoute(vec![(to, router), (to, Ipv4Addr::UNSPECIFIED)]);
        let Some(Reply::Ack(grant)) = granted([options, vec![classless]].concat()).unwrap() else { panic!("no grant") };
        let via: Vec<Option<IpAddr>> = grant.lease.routes.iter().map(|route| route.via).collect();
        assert_eq!(via, [Some(router.into()), None]);
    }

    #[test]
    fn what_no_lease_can_be_made_of_is_refused() {
        let time = DhcpOption::AddressLeaseTime;
        assert!(granted(vec![]).is_err());
        assert!(granted(vec![time(0)]).is_err());
        assert!(granted(vec![time(60), DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0))]).is_err());
        assert!(granted(vec![time(60)]).unwrap().is_some());
        let bytes = reply(MessageType::Nak, 7, MAC, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1), vec![]);
        assert_eq!(read(&bytes, 7, MAC).unwrap(), Some(Reply::Nak));
        // Another's question, another machine's, and a client's.
        assert_eq!(read(&bytes, 8, MAC).unwrap(), None);
        assert_eq!(read(&bytes, 7, [9; 6]).unwrap(), None);
        assert_eq!(read(&write(&Ask::Discover, 7, MAC).unwrap(), 7, MAC).unwrap(), None);
        assert!(read(&bytes[..100], 7, MAC).is_err());
        // An option that the library ends the program for, were it given it: rapid commit with a value.
        let end = bytes.len() - 1;
        let longer = [&bytes[..end], &[80, 1, 0, 255]].concat();
        assert_eq!(read(&longer, 7, MAC).unwrap(), Some(Reply::Nak));
        // A hardware address of 255 bytes.
        let long = [&bytes[..2], &[255], &bytes[3..]].concat();
        assert_eq!(read(&long, 7, MAC).unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_is_more_than_an_error(bytes: Vec<u8>, flips: Vec<(usize, u8)>) {
            let _ = read(&bytes, 7, MAC);
            let more = vec![
                DhcpOption::AddressLeaseTime(80),
                DhcpOption::Router(vec![[192, 0, 2, 1].into()]),
                DhcpOption::ClasslessStaticRoute(vec![("198.51.100.0/24".parse().unwrap(), [192, 0, 2, 1].into())]),
                DhcpOption::Hostname("node".to_owned()),
            ];
            let mut bytes = reply(MessageType::Ack, 7, MAC, [192, 0, 2, 10].into(), [192, 0, 2, 1].into(), more);
            for (at, bits) in flips {
                let at = at % bytes.len();
                bytes[at] ^= bits;
                let _ = read(&bytes, 7, MAC);
            }
        }
    }

    #[test]
    fn times_of_a_server_that_make_no_sense_are_not_used() {
        let seconds = Duration::from_secs;
        for (length, renew, rebind, expected) in [
            (80, Some(10), Some(20), (10, 20)),
            (80, Some(30), Some(20), (10, 20)),
            (80, Some(10), Some(90), (10, 70)),
            (80, Some(0), None, (40, 70)),
        ] {
            let times = times(length, renew.map(seconds), rebind.map(seconds)).unwrap();
            assert_eq!((times.renew, times.rebind), (seconds(expected.0), seconds(expected.1)), "{length} {renew:?} {rebind:?}");
        }
        assert_eq!(times(u32::MAX, None, None), None);
    }

    #[test]
    fn each_question_has_the_options_and_fields_that_it_must_have() {
        let address: IpAddr = [192, 0, 2, 10].into();
        let server = || Server { address: [192, 0, 2, 1].into(), id: Vec::new() };
        let table = [
            (Ask::Discover, MessageType::Discover, false, false, false),
            (Ask::Request { address, server: server() }, MessageType::Request, false, true, true),
            (Ask::Confirm { address }, MessageType::Request, false, true, false),
            (Ask::Renew { address, server: server() }, MessageType::Request, true, false, false),
            (Ask::Rebind { address }, MessageType::Request, true, false, false),
            (Ask::Decline { address, server: server() }, MessageType::Decline, false, true, true),
        ];
        for (ask, kind, has_own, has_requested, has_server) in table {
            let message = Message::decode(&mut Decoder::new(&write(&ask, 7, MAC).unwrap())).unwrap();
            let options = message.opts();
            assert_eq!(options.msg_type(), Some(kind), "{ask:?}");
            assert_eq!(message.ciaddr() == address, has_own, "{ask:?}");
            assert_eq!(options.contains(OptionCode::RequestedIpAddress), has_requested, "{ask:?}");
            assert_eq!(options.contains(OptionCode::ServerIdentifier), has_server, "{ask:?}");
        }
    }
}
