//! Machines for tests against the real kernel: network namespaces on one bridge, each with a pod that is a namespace too. Needs root and
//! iproute2.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::machine::config::OverlayBackend;
use ipnet::IpNet;

use super::packets::{End, tcp};
use super::plan::{Action, Seen, plan};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::plan::Plan;

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
        for link in ["lo", "eth0"] {
            host.run(&format!("ip link set {link} up"));
        }
        if families.v4 {
            host.run(&format!("ip address add 192.0.2.{number}/24 dev eth0"));
        }
        if families.v6 {
            host.run(&format!("ip address add 2001:db8::{number}/64 dev eth0 nodad"));
        }
        let (backend, overlays, peers) = (OverlayBackend::Vxlan, BTreeMap::new(), BTreeMap::new());
        let member = Member { number, address: number, families, backend, node_ips: None, host, pod, overlays, peers };
        connect(&member.host, &member.pod, &member.node().pod_cidrs);
        member
    }

    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub fn pod_address(&self, ipv6: bool) -> IpAddr {
        nth(*self.node().pod_cidrs.iter().find(|network| network.addr().is_ipv6() == ipv6).unwrap(), 2)
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

    /// Whether a connection of its pod to another's pod works.
    pub fn reaches(&self, other: &Member, ipv6: bool) -> bool {
        let [from, to] = [self, other].map(|member| End { pod: &member.pod, address: member.pod_address(ipv6) });
        tcp(from, to).is_ok()
    }
}

/// Connects a pod to its machine as the CNI plugin does: of each network the machine has the first address, and the pod the second.
pub fn connect(host: &Namespace, pod: &Namespace, networks: &[IpNet]) {
    host.run(&format!("ip link add pod0 type veth peer name eth0 netns {}", pod.pid()));
    host.run("ip link set pod0 up");
    for link in ["lo", "eth0"] {
        pod.run(&format!("ip link set {link} up"));
    }
    for network in networks {
        let (family, flags, forwarding) = match network {
            IpNet::V4(_) => ("-4", "", "net.ipv4.ip_forward"),
            IpNet::V6(_) => ("-6", " nodad", "net.ipv6.conf.all.forwarding"),
        };
        let (machine, own, bits) = (nth(*network, 1), nth(*network, 2), network.prefix_len());
        host.run(&format!("ip address add {machine}/{bits} dev pod0{flags}"));
        pod.run(&format!("ip address add {own}/{bits} dev eth0{flags}"));
        pod.run(&format!("ip {family} route add default via {machine}"));
        host.run(&format!("sysctl -q -w {forwarding}=1"));
    }
}

/// The address with this number in a network.
pub fn nth(network: IpNet, number: u8) -> IpAddr {
    match network {
        IpNet::V4(network) => Ipv4Addr::from(u32::from(network.network()) + u32::from(number)).into(),
        IpNet::V6(network) => Ipv6Addr::from(u128::from(network.network()) + u128::from(number)).into(),
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
