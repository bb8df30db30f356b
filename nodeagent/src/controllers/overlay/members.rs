//! Machines for tests against the real kernel: network namespaces on one bridge, each with a pod that is a namespace too. Needs root and
//! iproute2.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ::machine::config::OverlayBackend;

use super::plan::{Action, Seen, plan};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::plan::Plan;

/// For what takes milliseconds where it works.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The families that a cluster carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

/// The wire between the machines.
pub struct Switch(pub Namespace);

impl Switch {
    pub fn new() -> Switch {
        let switch = Namespace::new();
        switch.run("ip link add wire type bridge");
        switch.run("ip link set wire up");
        Switch(switch)
    }
}

pub struct Member {
    pub number: u8,
    /// The last part of its address.
    pub address: u8,
    pub families: Families,
    pub backend: OverlayBackend,
    /// Where they are others than its number says.
    pub node_ips: Option<Vec<IpAddr>>,
    pub host: Namespace,
    pub pod: Namespace,
    /// What the board holds for the controller.
    pub overlays: BTreeMap<String, OverlayStatus>,
    pub peers: BTreeMap<String, OverlayPeer>,
}

impl Member {
    pub fn new(switch: &Switch, number: u8, families: Families) -> Member {
        let (host, pod) = (Namespace::new(), Namespace::new());
        host.run(&format!("ip link add eth0 type veth peer name port{number} netns {}", switch.0.pid()));
        switch.0.run(&format!("ip link set port{number} master wire"));
        switch.0.run(&format!("ip link set port{number} up"));
        host.run("ip link set lo up");
        host.run(&format!("ip link add pod0 type veth peer name eth0 netns {}", pod.pid()));
        for link in ["eth0", "pod0"] {
            host.run(&format!("ip link set {link} up"));
        }
        for link in ["lo", "eth0"] {
            pod.run(&format!("ip link set {link} up"));
        }
        if families.v4 {
            host.run(&format!("ip address add 192.0.2.{number}/24 dev eth0"));
            host.run(&format!("ip address add 10.244.{number}.1/24 dev pod0"));
            pod.run(&format!("ip address add 10.244.{number}.2/24 dev eth0"));
            pod.run(&format!("ip route add default via 10.244.{number}.1"));
            host.run("sysctl -q -w net.ipv4.ip_forward=1");
        }
        if families.v6 {
            host.run(&format!("ip address add 2001:db8::{number}/64 dev eth0 nodad"));
            host.run(&format!("ip address add fd00:0:0:{number}::1/64 dev pod0 nodad"));
            pod.run(&format!("ip address add fd00:0:0:{number}::2/64 dev eth0 nodad"));
            pod.run(&format!("ip -6 route add default via fd00:0:0:{number}::1"));
            host.run("sysctl -q -w net.ipv6.conf.all.forwarding=1");
        }
        let backend = OverlayBackend::Vxlan;
        Member { number, address: number, families, backend, node_ips: None, host, pod, overlays: BTreeMap::new(), peers: BTreeMap::new() }
    }

    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub fn pod_address(&self, ipv6: bool) -> IpAddr {
        let number = self.number;
        let text = if ipv6 { format!("fd00:0:0:{number}::2") } else { format!("10.244.{number}.2") };
        text.parse().unwrap()
    }

    pub fn both<T>(&self, v4: T, v6: T) -> Vec<T> {
        let families = [(self.families.v4, v4), (self.families.v6, v6)];
        families.into_iter().filter(|(carried, _)| *carried).map(|(_, value)| value).collect()
    }

    /// As the API server has the Node before the overlay tells anything.
    pub fn node(&self) -> ClusterNode {
        let number = self.number;
        let parse = |text: String| text.parse().unwrap();
        ClusterNode {
            created_at: format!("2026-11-25T09:00:{number:02}Z"),
            ready: true,
            pod_cidrs: self
                .both(format!("10.244.{number}.0/24"), format!("fd00:0:0:{number}::/64"))
                .into_iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            addresses: self
                .both(format!("192.0.2.{}", self.address), format!("2001:db8::{}", self.address))
                .into_iter()
                .map(parse)
                .collect(),
            announcement: None,
            cpu_millis: 2000,
            problem: String::new(),
            ..ClusterNode::default()
        }
    }

    pub fn machine(&self) -> Machine {
        let mut machine = changed(&machine("worker"), |config| {
            config.cluster.network.pod_cidrs =
                self.both("10.244.0.0/16", "fd00::/48").into_iter().map(|cidr| cidr.parse().unwrap()).collect();
            config.cluster.network.overlay.backend = self.backend;
        });
        machine.facts.node_name = self.name();
        machine.facts.node_ips = self.node_ips.clone().unwrap_or_else(|| self.node().addresses);
        machine
    }

    /// A new agent's rounds until nothing is left to do: how many operations it took. What it tells comes into `nodes`.
    pub fn settle(&mut self, nodes: &mut BTreeMap<String, ClusterNode>) -> usize {
        let (name, machine, number) = (self.name(), self.machine(), self.number);
        let (overlays, peers) = (&mut self.overlays, &mut self.peers);
        self.host.enter(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let netlink = crate::controllers::network::connect().unwrap();
                let directory = tempfile::tempdir().unwrap();
                let root = ::machine::Root::new(directory.path());
                let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
                let mut operations = 0;
                for _ in 0..3 {
                    let seen = Seen {
                        machine: Ok(machine.clone()),
                        machine_id: format!("{number:032}"),
                        nodes: nodes.clone(),
                        kernel: kernel::read(&netlink).await.unwrap(),
                        overlays: overlays.clone(),
                        peers: peers.clone(),
                    };
                    let actions = match plan(&seen) {
                        Plan::Settled => return operations,
                        Plan::Waiting(missing) => panic!("{missing:?}"),
                        Plan::Act(actions) => actions,
                    };
                    for action in actions {
                        match action {
                            Action::TellOverlays(told) => *overlays = told,
                            Action::TellPeers(told) => *peers = told,
                            Action::Announce(announcement) => nodes.get_mut(&name).unwrap().announcement = Some(announcement),
                            Action::Program(batch) => {
                                operations += batch.len();
                                apply::apply(Action::Program(batch), &board, &netlink, || None).await.unwrap();
                            }
                            other => {
                                operations += 1;
                                apply::apply(other, &board, &netlink, || None).await.unwrap();
                            }
                        }
                    }
                }
                panic!("it does not settle: {:?}", kernel::read(&netlink).await);
            })
        })
    }

    /// Whether a connection of its pod to another's pod works, by an exchange of more than a packet.
    pub fn reaches(&self, other: &Member, ipv6: bool) -> bool {
        static LARGE: [u8; 100_000] = [7; 100_000];
        let listener = other.pod.enter(|| TcpListener::bind(SocketAddr::new(other.pod_address(ipv6), 0)).unwrap());
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            let (done, answered) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let Ok((mut stream, from)) = listener.accept() else { return };
                let _ = stream.write_all(&LARGE);
                let _ = done.send(from.ip());
            });
            let read = self.pod.enter(|| {
                let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).ok()?;
                Some(received.len())
            });
            if read.is_none() {
                // Ends the listener's wait.
                other.pod.enter(|| drop(TcpStream::connect_timeout(&address, PATIENCE)));
                return false;
            }
            read == Some(LARGE.len()) && answered.recv().unwrap() == self.pod_address(ipv6)
        })
    }
}

pub fn cluster(switch: &Switch, members: u8, families: Families) -> (Vec<Member>, BTreeMap<String, ClusterNode>) {
    let members: Vec<Member> = (1..=members).map(|number| Member::new(switch, number, families)).collect();
    let nodes = members.iter().map(|member| (member.name(), member.node())).collect();
    (members, nodes)
}

/// Twice each: in the first round all tell, in the second all hear.
pub fn settle_all(members: &mut [Member], nodes: &mut BTreeMap<String, ClusterNode>) {
    for _ in 0..2 {
        for member in members.iter_mut() {
            member.settle(nodes);
        }
    }
    for member in members {
        assert_eq!(member.settle(nodes), 0, "{} is settled", member.name());
    }
}
