//! What a client asks of servers, and what they grant, as messages of DHCPv6 (RFC 8415): one address, and who resolves names and tells the time.

mod wire;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, NtpSuboption, ORO, OptionCode, Status};
use dhcproto::{Decodable, Decoder, Encodable};

use super::client::{Ask, Grant, Reply, Server, Times};
use crate::packets::Mac;
use crate::resources::network::Lease;
pub use wire::Wire;

const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// All servers and relays on a link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// A time without an end (RFC 8415, 7.7).
const ENDLESS: u32 = u32::MAX;

/// The machine as servers know it: by the link's hardware address (RFC 8415, 11.4), which those who reserve addresses know beforehand.
fn client_id(mac: Mac) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac].concat()
}

/// Which of a client's addresses on a link: there is one.
fn association(mac: Mac) -> u32 {
    u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]])
}

pub fn write(ask: &Ask, number: u32, mac: Mac, elapsed: Duration) -> anyhow::Result<Vec<u8>> {
    let mut message = Message::new(match ask {
        Ask::Discover => MessageType::Solicit,
        Ask::Request { .. } => MessageType::Request,
        Ask::Confirm { .. } => MessageType::Confirm,
        Ask::Renew { .. } => MessageType::Renew,
        Ask::Rebind { .. } => MessageType::Rebind,
        Ask::Decline { .. } => MessageType::Decline,
    });
    message.set_xid_num(number & 0xff_ffff);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(client_id(mac)));
    // In hundredths of a second.
    options.insert(DhcpOption::ElapsedTime(u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX)));
    if let Ask::Request { server, .. } | Ask::Renew { server, .. } | Ask::Decline { server, .. } = ask {
        options.insert(DhcpOption::ServerId(server.id.clone()));
    }
    let mut addresses = DhcpOptions::new();
    match ask {
        Ask::Discover => {}
        Ask::Request { address, .. }
        | Ask::Confirm { address }
        | Ask::Renew { address, .. }
        | Ask::Rebind { address }
        | Ask::Decline { address, .. } => {
            let IpAddr::V6(addr) = *address else { bail!("{address} in a conversation of DHCPv6") };
            addresses.insert(DhcpOption::IAAddr(IAAddr { addr, preferred_life: 0, valid_life: 0, opts: DhcpOptions::new() }));
        }
    }
    options.insert(DhcpOption::IANA(IANA { id: association(mac), t1: 0, t2: 0, opts: addresses }));
    if !matches!(ask, Ask::Confirm { .. } | Ask::Decline { .. }) {
        options.insert(DhcpOption::ORO(ORO { opts: vec![OptionCode::DomainNameServers, OptionCode::NtpServer] }));
    }
    message.to_vec().context("writing a DHCPv6 message")
}

/// `None` for what is not an answer to the question of this number. An answer that no lease can be made of is an error.
pub fn read(bytes: &[u8], number: u32, mac: Mac, from: IpAddr) -> anyhow::Result<Option<Reply>> {
    let bytes = understood(bytes).context("reading a DHCPv6 message")?;
    let message = Message::decode(&mut Decoder::new(&bytes)).context("reading a DHCPv6 message")?;
    let options = message.opts();
    let is_for_us = matches!(options.get(OptionCode::ClientId), Some(DhcpOption::ClientId(id)) if *id == client_id(mac));
    if message.xid_num() != number & 0xff_ffff || !is_for_us {
        return Ok(None);
    }
    match message.msg_type() {
        // Whoever has nothing to offer is no server.
        MessageType::Advertise => Ok(answer(options, mac, from)?.filter(|reply| *reply != Reply::Nak).map(|reply| match reply {
            Reply::Ack(grant) => Reply::Offer(grant),
            other => other,
        })),
        MessageType::Reply => answer(options, mac, from),
        _ => Ok(None),
    }
}

/// What the library is given of a message: the options that are read here, each as long as it has to be. It counts on lengths that a neighbour on the
/// link may lie about.
fn understood(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    const HEADER_BYTES: usize = 4;
    let (header, options) = bytes.split_at_checked(HEADER_BYTES).context("a message of less than 4 bytes")?;
    let mut kept = header.to_vec();
    keep(options, &[1, 2, 3, 13, 23, 56], &mut kept)?;
    Ok(kept)
}

/// Options of these codes. Those within options follow fixed fields (RFC 8415, 21.4 and 21.6).
fn keep(mut options: &[u8], codes: &[u16], kept: &mut Vec<u8>) -> anyhow::Result<()> {
    while let Some((head, rest)) = options.split_at_checked(4) {
        let (code, length) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let (value, rest) = rest.split_at_checked(length.into()).with_context(|| format!("option {code} is cut short"))?;
        options = rest;
        if !codes.contains(&code) {
            continue;
        }
        let (fixed, within): (usize, &[u16]) = match code {
            3 => (12, &[5, 13]),
            5 => (24, &[13]),
            13 => (2, &[]),
            _ => (value.len(), &[]),
        };
        let (fixed, more) = value.split_at_checked(fixed).with_context(|| format!("option {code} has {length} bytes"))?;
        let mut value = fixed.to_vec();
        // The text of a status is for people, and may be anything.
        if !within.is_empty() {
            keep(more, within, &mut value)?;
        }
        let length = u16::try_from(value.len()).context("an option of more than 65535 bytes")?;
        kept.extend_from_slice(&code.to_be_bytes());
        kept.extend_from_slice(&length.to_be_bytes());
        kept.extend_from_slice(&value);
    }
    Ok(())
}

/// What the answer says of the address: granted, good still, or not to be had.
fn answer(options: &DhcpOptions, mac: Mac, from: IpAddr) -> anyhow::Result<Option<Reply>> {
    let status = status(options);
    let Some(association) = associations(options).find(|one| one.id == association(mac)) else {
        // An answer to Confirm has a status alone (RFC 8415, 18.3.3).
        return Ok(match status {
            Some(Status::Success) => Some(Reply::Confirmed),
            Some(Status::NotOnLink | Status::NoBinding | Status::NoAddrsAvail) => Some(Reply::Nak),
            _ => None,
        });
    };
    let refused = |status: Option<Status>| status.is_some_and(|status| status != Status::Success);
    let given = association.opts.get_all(OptionCode::IAAddr).into_iter().flatten();
    let usable = given.filter_map(|option| match option {
        DhcpOption::IAAddr(address) if address.valid_life > 0 && !refused(self::status(&address.opts)) => Some(address),
        _ => None,
    });
    let Some(address) = usable.into_iter().next().filter(|_| !refused(status) && !refused(self::status(&association.opts))) else {
        return Ok(Some(Reply::Nak));
    };
    grant(options, association, address, from).map(|grant| Some(Reply::Ack(grant)))
}

fn associations(options: &DhcpOptions) -> impl Iterator<Item = &IANA> {
    let all = options.get_all(OptionCode::IANA).into_iter().flatten();
    all.filter_map(|option| if let DhcpOption::IANA(association) = option { Some(association) } else { None })
}

fn status(options: &DhcpOptions) -> Option<Status> {
    match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

fn grant(options: &DhcpOptions, association: &IANA, given: &IAAddr, from: IpAddr) -> anyhow::Result<Grant> {
    let address = given.addr;
    let unusable = address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_unicast_link_local();
    ensure!(!unusable, "a server grants {address}; expected the address of one machine");
    let Some(DhcpOption::ServerId(id)) = options.get(OptionCode::ServerId) else { bail!("a server that does not say its DUID (option 2)") };
    let nameservers = match options.get(OptionCode::DomainNameServers) {
        Some(DhcpOption::DomainNameServers(servers)) => servers.iter().copied().map(IpAddr::V6).collect(),
        _ => Vec::new(),
    };
    let time_servers = match options.get(OptionCode::NtpServer) {
        Some(DhcpOption::NtpServer(servers)) => servers.iter().filter_map(time_server).collect(),
        _ => Vec::new(),
    };
    let lease = Lease {
        // Who else is on the link, routers say.
        address: IpAddr::V6(address).into(),
        routes: Vec::new(),
        nameservers,
        time_servers,
        hostname: None,
        mtu: None,
        server: from,
        seconds: given.valid_life,
    };
    // The preferred time is when the address should be renewed by (RFC 8415, 14.2); the valid one is its end.
    let seconds = |seconds: u32| Some(Duration::from_secs(seconds.into())).filter(|_| seconds > 0);
    let times = (given.valid_life != ENDLESS)
        .then(|| Times::until(Duration::from_secs(given.valid_life.into()), seconds(association.t1), seconds(association.t2)));
    Ok(Grant { address: address.into(), server: Server { address: from, id: id.clone() }, times, lease })
}

/// Names and multicast groups are of no use to who has no other way to the time.
fn time_server(server: &NtpSuboption) -> Option<IpAddr> {
    match server {
        NtpSuboption::ServerAddress(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v6::StatusCode;
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn server() -> IpAddr {
        "fe80::2".parse().unwrap()
    }

    fn address(address: &str, valid_life: u32, opts: Vec<DhcpOption>) -> DhcpOption {
        let opts = opts.into_iter().collect();
        DhcpOption::IAAddr(IAAddr { addr: address.parse().unwrap(), preferred_life: valid_life / 2, valid_life, opts })
    }

    fn status(status: Status) -> DhcpOption {
        DhcpOption::StatusCode(StatusCode { status, msg: String::new() })
    }

    /// An answer to question 7, with what it says of the client's address beside further options.
    fn reply(kind: MessageType, given: Option<Vec<DhcpOption>>, more: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::new(kind);
        message.set_xid_num(7);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(client_id(MAC)));
        options.insert(DhcpOption::ServerId(vec![1, 2, 3]));
        more.into_iter().for_each(|option| options.insert(option));
        if let Some(given) = given {
            options.insert(DhcpOption::IANA(IANA { id: association(MAC), t1: 10, t2: 0, opts: given.into_iter().collect() }));
        }
        message.to_vec().unwrap()
    }

    fn heard(bytes: &[u8]) -> anyhow::Result<Option<Reply>> {
        read(bytes, 7, MAC, server())
    }

    #[test]
    fn a_lease_has_what_the_server_gave() {
        let dns = "2001:db8::53".parse().unwrap();
        let ntp = NtpSuboption::ServerAddress("2001:db8::123".parse().unwrap());
        let more = vec![DhcpOption::DomainNameServers(vec![dns]), DhcpOption::NtpServer(vec![ntp])];
        // One whose time is over comes first: the server renumbers.
        let given = vec![address("2001:db8::9", 0, vec![]), address("2001:db8::10", 80, vec![])];
        let Some(Reply::Ack(grant)) = heard(&reply(MessageType::Reply, Some(given.clone()), more.clone())).unwrap() else {
            panic!("no grant")
        };
        assert_eq!((grant.lease.address.to_string().as_str(), grant.server.id.as_slice()), ("2001:db8::10/128", &[1, 2, 3][..]));
        assert_eq!((grant.lease.nameservers[0].to_string().as_str(), grant.lease.time_servers.len()), ("2001:db8::53", 1));
        let seconds = Duration::from_secs;
        assert_eq!(grant.times, Some(Times { renew: seconds(10), rebind: seconds(70), end: seconds(80) }));
        let offer = heard(&reply(MessageType::Advertise, Some(given), more)).unwrap();
        assert_eq!(offer, Some(Reply::Offer(grant)));
        let Some(Reply::Ack(endless)) =
            heard(&reply(MessageType::Reply, Some(vec![address("2001:db8::10", ENDLESS, vec![])]), vec![])).unwrap()
        else {
            panic!("no grant")
        };
        assert_eq!(endless.times, None);
    }

    #[test]
    fn refusals_are_told_from_answers_that_make_no_sense() {
        let good = || address("2001:db8::10", 80, vec![]);
        let nak = Some(Reply::Nak);
        for (given, more, expected) in [
            (Some(vec![status(Status::NoBinding)]), vec![], nak.clone()),
            (Some(vec![good(), status(Status::NoAddrsAvail)]), vec![], nak.clone()),
            (Some(vec![address("2001:db8::10", 80, vec![status(Status::NotOnLink)])]), vec![], nak.clone()),
            (Some(vec![good()]), vec![status(Status::UnspecFail)], nak.clone()),
            (Some(vec![]), vec![], nak.clone()),
            (None, vec![status(Status::NotOnLink)], nak),
            (None, vec![status(Status::Success)], Some(Reply::Confirmed)),
            (None, vec![], None),
        ] {
            let bytes = reply(MessageType::Reply, given.clone(), more.clone());
            assert_eq!(heard(&bytes).unwrap(), expected, "{given:?} {more:?}");
        }
        // A server that has nothing to offer is not listened to, and others may have.
        assert_eq!(heard(&reply(MessageType::Advertise, Some(vec![status(Status::NoAddrsAvail)]), vec![])).unwrap(), None);
        for unusable in ["::", "::1", "ff02::1", "fe80::10"] {
            assert!(heard(&reply(MessageType::Reply, Some(vec![address(unusable, 80, vec![])]), vec![])).is_err(), "{unusable}");
        }
        let bytes = reply(MessageType::Reply, Some(vec![good()]), vec![]);
        // Another's question, another machine's, and a client's.
        assert_eq!(read(&bytes, 8, MAC, server()).unwrap(), None);
        assert_eq!(read(&bytes, 7, [9; 6], server()).unwrap(), None);
        assert_eq!(heard(&write(&Ask::Discover, 7, MAC, Duration::ZERO).unwrap()).unwrap(), None);
        assert!(heard(&bytes[..3]).is_err() && heard(&bytes[..30]).is_err());
    }

    #[test]
    fn each_question_has_the_options_that_it_must_have() {
        let own: IpAddr = "2001:db8::10".parse().unwrap();
        let server = || Server { address: server(), id: vec![1, 2, 3] };
        for (ask, kind, has_server) in [
            (Ask::Discover, MessageType::Solicit, false),
            (Ask::Request { address: own, server: server() }, MessageType::Request, true),
            (Ask::Confirm { address: own }, MessageType::Confirm, false),
            (Ask::Renew { address: own, server: server() }, MessageType::Renew, true),
            (Ask::Rebind { address: own }, MessageType::Rebind, false),
            (Ask::Decline { address: own, server: server() }, MessageType::Decline, true),
        ] {
            let bytes = write(&ask, 0xff00_0007, MAC, Duration::from_millis(1234)).unwrap();
            let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
            let options = message.opts();
            assert_eq!((message.msg_type(), message.xid_num()), (kind, 7), "{ask:?}");
            assert_eq!(options.get(OptionCode::ServerId).is_some(), has_server, "{ask:?}");
            assert_eq!(options.get(OptionCode::ElapsedTime), Some(&DhcpOption::ElapsedTime(123)), "{ask:?}");
            let named = associations(options).next().unwrap().opts.get(OptionCode::IAAddr).is_some();
            assert_eq!(named, ask != Ask::Discover, "{ask:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_is_more_than_an_error(bytes: Vec<u8>, flips: Vec<(usize, u8)>) {
            let _ = heard(&bytes);
            let ntp = NtpSuboption::ServerAddress("2001:db8::123".parse().unwrap());
            let more = vec![status(Status::Success), DhcpOption::DomainNameServers(vec!["2001:db8::53".parse().unwrap()]), DhcpOption::NtpServer(vec![ntp])];
            let mut bytes = reply(MessageType::Reply, Some(vec![address("2001:db8::10", 80, vec![status(Status::Success)])]), more);
            for (at, bits) in flips {
                let at = at % bytes.len();
                bytes[at] ^= bits;
                let _ = heard(&bytes);
            }
        }
    }
}
