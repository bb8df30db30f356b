//! Against the real kernel: machines are network namespaces on one bridge, each with a pod that is a namespace too. Needs root and iproute2.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::plan::{Action, Seen, plan};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::plan::Plan;
use crate::resources::overlay::PeerState;

/// For what takes milliseconds where it works.
const PATIENCE: Duration = Duration::from_secs(3);

/// The families that a cluster carries.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Families {
    v4: bool,
    v6: bool,
}

/// The wire between the machines.
struct Switch(Namespace);

impl Switch {
    fn new() -> Switch {
        let switch = Namespace::new();
        switch.run("ip link add wire type bridge");
        switch.run("ip link set wire up");
        Switch(switch)
    }
}

struct Member {
    number: u8,
    /// The last part of its address.
    address: u8,
    families: Families,
    host: Namespace,
    pod: Namespace,
    /// What the board holds for the controller.
    overlays: BTreeMap<String, OverlayStatus>,
    peers: BTreeMap<String, OverlayPeer>,
}

impl Member {
    fn new(switch: &Switch, number: u8, families: Families) -> Member {
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
        Member { number, address: number, families, host, pod, overlays: BTreeMap::new(), peers: BTreeMap::new() }
    }

    fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    fn pod_address(&self, ipv6: bool) -> IpAddr {
        let number = self.number;
        let text = if ipv6 { format!("fd00:0:0:{number}::2") } else { format!("10.244.{number}.2") };
        text.parse().unwrap()
    }

    fn both<T>(&self, v4: T, v6: T) -> Vec<T> {
        let families = [(self.families.v4, v4), (self.families.v6, v6)];
        families.into_iter().filter(|(carried, _)| *carried).map(|(_, value)| value).collect()
    }

    /// As the API server has the Node before the overlay tells anything.
    fn node(&self) -> ClusterNode {
        let number = self.number;
        let parse = |text: String| text.parse().unwrap();
        ClusterNode {
            labels: BTreeMap::new(),
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
        }
    }

    fn machine(&self) -> Machine {
        let mut machine = changed(&machine("worker"), |config| {
            config.cluster.network.pod_cidrs =
                self.both("10.244.0.0/16", "fd00::/48").into_iter().map(|cidr| cidr.parse().unwrap()).collect();
        });
        machine.facts.node_name = self.name();
        machine.facts.node_ips = self.node().addresses;
        machine
    }

    /// A new agent's rounds until nothing is left to do: how many operations it took. What it tells comes into `nodes`.
    fn settle(&mut self, nodes: &mut BTreeMap<String, ClusterNode>) -> usize {
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
    fn reaches(&self, other: &Member, ipv6: bool) -> bool {
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

fn cluster(switch: &Switch, members: u8, families: Families) -> (Vec<Member>, BTreeMap<String, ClusterNode>) {
    let members: Vec<Member> = (1..=members).map(|number| Member::new(switch, number, families)).collect();
    let nodes = members.iter().map(|member| (member.name(), member.node())).collect();
    (members, nodes)
}

/// Twice each: in the first round all tell, in the second all hear.
fn settle_all(members: &mut [Member], nodes: &mut BTreeMap<String, ClusterNode>) {
    for _ in 0..2 {
        for member in members.iter_mut() {
            member.settle(nodes);
        }
    }
    for member in members {
        assert_eq!(member.settle(nodes), 0, "{} is settled", member.name());
    }
}

#[test]
fn pods_reach_each_other_across_machines() {
    for families in [Families { v4: true, v6: false }, Families { v4: true, v6: true }, Families { v4: false, v6: true }] {
        let switch = Switch::new();
        let (mut members, mut nodes) = cluster(&switch, 3, families);
        assert!(!members[0].reaches(&members[1], families.v6), "without an overlay there is no way");
        settle_all(&mut members, &mut nodes);
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
            for ipv6 in members[0].both(false, true) {
                assert!(members[from].reaches(&members[to], ipv6), "{from} to {to}, IPv6 {ipv6}, {families:?}");
            }
        }
        let mtus: Vec<u32> = members[0].overlays.values().map(|overlay| overlay.mtu).collect();
        assert_eq!(mtus, members[0].both(1450, 1430).into_iter().rev().collect::<Vec<u32>>(), "{:?}", members[0].overlays);
    }
}

/// Numbered datagrams from pod to pod all the while agents start anew and another machine comes and goes: none is lost.
#[test]
fn an_agent_that_starts_anew_loses_no_packet() {
    const EVERY: Duration = Duration::from_millis(1);
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    settle_all(&mut members, &mut nodes);
    let bind = |member: &Member| member.pod.enter(|| UdpSocket::bind(SocketAddr::new(member.pod_address(false), 9000)).unwrap());
    let (from, to) = (bind(&members[0]), bind(&members[1]));
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = to.local_addr().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut number = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                from.send_to(&number.to_be_bytes(), target).unwrap();
                number += 1;
                std::thread::sleep(EVERY);
            }
            number
        });
        let receiving = scope.spawn(|| {
            let (mut received, mut bytes) = (0_u32, [0; 4]);
            while to.recv(&mut bytes).is_ok() {
                received += 1;
            }
            received
        });
        let gone = nodes.remove("node-3").unwrap();
        for _ in 0..5 {
            for member in &mut members[..2] {
                member.settle(&mut nodes);
            }
            if nodes.remove("node-3").is_none() {
                nodes.insert("node-3".to_owned(), gone.clone());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let sent = sending.join().unwrap();
        assert!(sent > 10);
        assert_eq!(receiving.join().unwrap(), sent);
    });
}

#[test]
fn a_machine_that_leaves_takes_its_entries_along_and_others_routes_stay() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    // Somebody else's: to a network of their own, and by a tunnel of their own.
    members[0].host.run("ip route add 198.51.100.0/24 via 192.0.2.77");
    members[0].host.run("ip link add flannel.7 type vxlan id 7 dstport 4789 nolearning");
    members[0].host.run("bridge fdb append 02:00:00:00:00:77 dev flannel.7 dst 192.0.2.77");
    let foreign = |member: &Member| {
        let routes = member.host.text(&["ip", "route", "show", "198.51.100.0/24"]);
        routes + &member.host.text(&["bridge", "fdb", "show", "dev", "flannel.7"])
    };
    let before = foreign(&members[0]);
    assert!(before.contains("198.51.100.0/24") && before.contains("02:00:00:00:00:77"), "{before}");
    settle_all(&mut members, &mut nodes);
    assert_eq!(members[0].host.text(&["ip", "route", "show", "proto", "178"]).lines().count(), 2);

    let left = nodes.remove("node-3").unwrap();
    members[0].settle(&mut nodes);
    assert_eq!(members[0].host.text(&["ip", "route", "show", "proto", "178"]).lines().count(), 1);
    assert_eq!(members[0].host.text(&["bridge", "fdb", "show", "dev", "flannel.1"]).lines().count(), 1);
    assert_eq!(members[0].host.text(&["ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"]).lines().count(), 1);
    assert!(!members[0].reaches(&members[2], false));
    assert_eq!(foreign(&members[0]), before);

    // It comes back with another address: what is there is changed, not made anew.
    nodes.insert("node-3".to_owned(), left);
    settle_all(&mut members, &mut nodes);
    members[2].host.run("ip address del 192.0.2.3/24 dev eth0");
    members[2].host.run("ip address add 192.0.2.33/24 dev eth0");
    members[2].address = 33;
    nodes.get_mut("node-3").unwrap().addresses = members[2].node().addresses;
    assert_eq!(members[2].settle(&mut nodes), 1, "the device's source address");
    assert_eq!(members[0].settle(&mut nodes), 1, "where its packets go");
    settle_all(&mut members, &mut nodes);
    assert!(members[0].reaches(&members[2], false) && members[2].reaches(&members[1], false));
    assert_eq!(foreign(&members[0]), before);
}

/// What the health gate asks.
#[test]
fn peers_that_answered_have_to_answer_again() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: true });
    settle_all(&mut members, &mut nodes);
    let directory = tempfile::tempdir().unwrap();
    let root = ::machine::Root::new(directory.path());
    let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let asked = ["node-2".to_owned(), "node-3".to_owned()];
    let still = |member: &Member, board: &Node| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        member.host.enter(|| runtime().block_on(async { (reach::answering(board).await, reach::still(board, &asked).await) }))
    };
    assert_eq!(still(&members[0], &board), (BTreeSet::new(), Err("this machine is not in the overlay yet".to_owned())));
    board.store.replace(members[0].overlays.clone());
    board.store.replace(members[0].peers.clone());
    board.store.replace(nodes.clone());
    assert_eq!(still(&members[0], &board), (BTreeSet::from(asked.clone()), Ok(())));

    members[2].host.run("ip link set eth0 down");
    let (answering, silent) = still(&members[0], &board);
    assert_eq!(answering, BTreeSet::from(["node-2".to_owned()]));
    assert!(silent.as_ref().unwrap_err().starts_with("node-3: 10.244.3.0: "), "{silent:?}");
    nodes.get_mut("node-3").unwrap().ready = false;
    board.store.replace(nodes.clone());
    assert_eq!(still(&members[0], &board).1, Ok(()), "one that is not Ready is not this machine's fault");
    nodes.remove("node-3");
    board.store.replace(nodes);
    assert_eq!(still(&members[0], &board).1, Ok(()));
}

/// A device of the same name, and a route to a peer's pods, that others made.
#[test]
fn what_others_made_is_told_of_and_left() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    members[0].host.run("ip route add 10.244.2.0/24 via 192.0.2.77");
    settle_all(&mut members, &mut nodes);
    let refused = &members[0].peers["node-2"];
    assert_eq!((refused.state, members[0].peers["node-3"].state), (PeerState::Refused, PeerState::Connected));
    assert_eq!(refused.message, "this machine has a route to 10.244.2.0/24 already that is not the overlay's");
    assert!(members[0].reaches(&members[2], false));
    members[0].host.run("ip route del 10.244.2.0/24");
    members[0].settle(&mut nodes);
    assert!(members[0].reaches(&members[1], false));

    let other = Member::new(&switch, 9, Families { v4: true, v6: false });
    other.host.run("ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning");
    let kernel = other.host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { kernel::read(&crate::controllers::network::connect().unwrap()).await.unwrap() })
    });
    nodes.insert(other.name(), other.node());
    let seen =
        Seen { machine: Ok(other.machine()), machine_id: String::new(), nodes, kernel, overlays: BTreeMap::new(), peers: BTreeMap::new() };
    let Plan::Waiting(missing) = plan(&seen) else { panic!() };
    assert_eq!(missing[0].to_string(), "link flannel.1, which somebody else made, to go");
}
