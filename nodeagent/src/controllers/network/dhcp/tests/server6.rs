//! A DHCPv6 server on `peer0`.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, Mutex};

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, Message, OptionCode, Status, StatusCode};
use dhcproto::{Decodable, Decoder, Encodable};
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;

pub use dhcproto::v6::MessageType as Kind;

/// What it does when it is asked.
#[derive(Debug, Clone)]
pub struct Conduct {
    pub is_silent: bool,
    /// The last part of the only address that it grants: whoever has another one is refused.
    pub last: u16,
    pub seconds: u32,
    pub renew: u32,
}

pub struct Server {
    conduct: Arc<Mutex<Conduct>>,
    asked: Arc<Mutex<Vec<Kind>>>,
}

impl Server {
    pub fn start() -> Server {
        let conduct = Arc::new(Mutex::new(Conduct { is_silent: false, last: 0x10, seconds: 600, renew: 300 }));
        let asked = Arc::default();
        tokio::spawn(serve(conduct.clone(), Arc::clone(&asked)));
        Server { conduct, asked }
    }

    pub fn conduct(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.conduct.lock().unwrap());
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == kind).count()
    }
}

async fn serve(conduct: Arc<Mutex<Conduct>>, asked: Arc<Mutex<Vec<Kind>>>) {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), None).unwrap();
    socket.bind_device(Some(b"peer0")).unwrap();
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 547, 0, 0).into()).unwrap();
    let index = nix::net::if_::if_nametoindex("peer0").unwrap();
    socket.join_multicast_v6(&"ff02::1:2".parse().unwrap(), index).unwrap();
    let socket = UdpSocket::from_std(socket.into()).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::decode(&mut Decoder::new(&buffer[..length])).unwrap();
        asked.lock().unwrap().push(question.msg_type());
        let conduct = conduct.lock().unwrap().clone();
        if !conduct.is_silent {
            // A wire that has just gone takes nothing.
            let _ = socket.send_to(&answer(&question, &conduct), from).await;
        }
    }
}

fn answer(question: &Message, conduct: &Conduct) -> Vec<u8> {
    let granted = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, conduct.last);
    let Some(DhcpOption::IANA(association)) = question.opts().get(OptionCode::IANA) else { panic!("{question:?}") };
    let named = match association.opts.get(OptionCode::IAAddr) {
        Some(DhcpOption::IAAddr(address)) => Some(address.addr),
        _ => None,
    };
    let kind = if question.msg_type() == Kind::Solicit { Kind::Advertise } else { Kind::Reply };
    let mut reply = Message::new(kind);
    reply.set_xid(question.xid());
    let options = reply.opts_mut();
    options.insert(question.opts().get(OptionCode::ClientId).unwrap().clone());
    options.insert(DhcpOption::ServerId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe]));
    let status = |status| DhcpOption::StatusCode(StatusCode { status, msg: String::new() });
    let is_known = named.is_none_or(|named| named == granted);
    match question.msg_type() {
        Kind::Confirm | Kind::Decline => options.insert(status(if is_known { Status::Success } else { Status::NotOnLink })),
        _ => {
            let mut opts = DhcpOptions::new();
            if is_known {
                let (preferred_life, valid_life) = (conduct.seconds / 2, conduct.seconds);
                opts.insert(DhcpOption::IAAddr(IAAddr { addr: granted, preferred_life, valid_life, opts: DhcpOptions::new() }));
            } else {
                opts.insert(status(Status::NoBinding));
            }
            options.insert(DhcpOption::IANA(IANA { id: association.id, t1: conduct.renew, t2: 0, opts }));
            options.insert(DhcpOption::DomainNameServers(vec!["2001:db8::53".parse().unwrap()]));
        }
    }
    reply.to_vec().unwrap()
}
