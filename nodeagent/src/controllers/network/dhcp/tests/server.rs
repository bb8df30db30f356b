//! A DHCP server on `peer0`, and the machines beside it. They have no kernel: what they say is in frames.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};
use socket2::SockFilter;
use tokio::sync::watch;

use super::super::v4::tests::reply;
use super::super::v4::{CLIENT_PORT, SERVER_PORT};
use crate::arp;
use crate::packets::{self, BROADCAST, Kind, Listener, Mac};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];

/// What it does when it is asked.
#[derive(Debug, Clone)]
pub struct Conduct {
    pub is_silent: bool,
    /// The last octet of the only address that it grants. Whoever asks for another one is refused...
    pub last: u8,
    /// ...or gets this one instead.
    pub moves: bool,
    /// Nobody's time is made longer.
    pub refuses_renewals: bool,
    pub seconds: u32,
    pub renew: u32,
    /// In place of the server as router.
    pub options: Vec<DhcpOption>,
    /// Machines beside it, and their hardware addresses.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
}

impl Conduct {
    pub fn granting(last: u8) -> Conduct {
        let options = vec![DhcpOption::Router(vec![SERVER])];
        Conduct {
            is_silent: false,
            last,
            moves: false,
            refuses_renewals: false,
            seconds: 600,
            renew: 300,
            options,
            neighbours: BTreeMap::new(),
        }
    }
}

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub kind: MessageType,
    /// The address that it uses.
    pub own: Option<Ipv4Addr>,
    requested: Option<Ipv4Addr>,
    names_server: bool,
    pub is_broadcast: bool,
}

impl Asked {
    pub fn is_confirmation(&self) -> bool {
        self.kind == MessageType::Request && self.own.is_none() && self.requested.is_some() && !self.names_server
    }
}

pub struct Server {
    conduct: Arc<Mutex<Conduct>>,
    pub asked: watch::Sender<Vec<Asked>>,
}

impl Server {
    pub fn start(conduct: Conduct) -> Server {
        let conduct = Arc::new(Mutex::new(conduct));
        let asked = watch::Sender::new(Vec::new());
        tokio::spawn(serve(conduct.clone(), asked.clone()));
        tokio::spawn(answer_for_neighbours(conduct.clone()));
        Server { conduct, asked }
    }

    pub fn conduct(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.conduct.lock().unwrap());
    }

    /// A router beside it tells of this MTU and this name server, and whether addresses are given by DHCPv6, until the test ends: the kernel hears
    /// nothing before its own address is looked at.
    pub fn advertise(&self, mtu: u32, name_server: Ipv6Addr, is_managed: bool) {
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let all: Ipv6Addr = "ff02::1".parse().unwrap();
        // Advertisement: hop limit 64, flag M, for 1800 s; its MTU option (RFC 4861, 4.2 and 4.6.4) and a name server for as long (RFC 8106, 5.1).
        let flags = if is_managed { 0x80 } else { 0 };
        let mut body = [
            &[134, 0, 0, 0, 64, flags, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0][..],
            &mtu.to_be_bytes(),
            &[25, 3, 0, 0, 0, 0, 0x07, 0x08],
            &name_server.octets(),
        ]
        .concat();
        let length = u8::try_from(body.len()).unwrap();
        let sum = packets::checksum(&[&router.octets()[..], &all.octets(), &[0, 0, 0, length, 0, 0, 0, 58], &body].concat());
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let head = [&[0x33, 0x33, 0, 0, 0, 1][..], &SERVER_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]].concat();
        let frame = [&head[..], &router.octets(), &all.octets(), &body].concat();
        tokio::spawn(async move {
            let card = packets::card("peer0").unwrap();
            loop {
                let _ = packets::send(&card, &frame);
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        });
    }
}

async fn serve(conduct: Arc<Mutex<Conduct>>, all: watch::Sender<Vec<Asked>>) {
    let card = packets::card("peer0").unwrap();
    let listener = Listener::open(Kind::Ipv4, Some(&card), &packets::to_port(SERVER_PORT)).unwrap();
    loop {
        let heard = listener.next().await.unwrap();
        let (_, to, payload) = packets::read_udp(&heard.packet).unwrap();
        let message = Message::decode(&mut Decoder::new(payload)).unwrap();
        let options = message.opts();
        let requested = match options.get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
            _ => None,
        };
        let own = Some(message.ciaddr()).filter(|own| !own.is_unspecified());
        let kind = options.msg_type().unwrap();
        let names_server = options.contains(OptionCode::ServerIdentifier);
        all.send_modify(|all| all.push(Asked { kind, own, requested, names_server, is_broadcast: to.ip().is_broadcast() }));
        let conduct = conduct.lock().unwrap().clone();
        if conduct.is_silent {
            continue;
        }
        let granted = Ipv4Addr::new(192, 0, 2, conduct.last);
        let kind = match kind {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request if own.is_some() && conduct.refuses_renewals => MessageType::Nak,
            MessageType::Request if requested.or(own) == Some(granted) || conduct.moves => MessageType::Ack,
            MessageType::Request => MessageType::Nak,
            _ => continue,
        };
        let mut more = Vec::new();
        if kind != MessageType::Nak {
            more = vec![
                DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
                DhcpOption::AddressLeaseTime(conduct.seconds),
                DhcpOption::Renewal(conduct.renew),
            ];
            more.extend(conduct.options);
        }
        let mac = <Mac>::try_from(message.chaddr()).unwrap();
        let payload = reply(kind, message.xid(), mac, granted, SERVER, more);
        let (from, to) = (SocketAddrV4::new(SERVER, SERVER_PORT), SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT));
        // A wire that has just gone takes nothing.
        let _ = packets::send(&card, &packets::udp(SERVER_MAC, BROADCAST, from, to, &payload).unwrap());
    }
}

/// Nobody would find the server by its address otherwise.
async fn answer_for_neighbours(conduct: Arc<Mutex<Conduct>>) {
    let card = packets::card("peer0").unwrap();
    let everything = [SockFilter::new(packets::RETURN, 0, 0, u32::MAX)];
    let listener = Listener::open(Kind::Arp, Some(&card), &everything).unwrap();
    loop {
        let packet = listener.next().await.unwrap().packet;
        let Some(said) = arp::read(&packet).filter(|_| packet[6..8] == [0, 1]) else { continue };
        let target = Ipv4Addr::new(packet[24], packet[25], packet[26], packet[27]);
        let neighbours = conduct.lock().unwrap().neighbours.clone();
        let mac = if target == SERVER { Some(SERVER_MAC) } else { neighbours.get(&target).copied() };
        let Some(mac) = mac.filter(|_| said.address != target) else { continue };
        let head = [&said.mac[..], &mac, &[0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 2]].concat();
        let reply = [&head[..], &mac, &target.octets(), &said.mac, &said.address.octets()].concat();
        let _ = packets::send(&card, &reply);
    }
}
