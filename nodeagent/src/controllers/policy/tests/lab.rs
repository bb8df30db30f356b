//! A machine with pods behind its bridge, and others beyond it: network namespaces, the kernel's own path of packets, and the controller.
//! Needs root, nft, iproute2 and a kernel with br_netfilter.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ::machine::Root;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::world::{World, namespace, pod};
use super::*;
use crate::controllers::fixtures::machine;
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::node::Applied;
use crate::resources::network::{AddressState, Hostname, NodeIps};

/// Upstream's tests have three namespaces with three pods each. Those of z are on another machine.
pub const PODS: [(&str, &str, u8); 9] = [
    ("x", "a", 2),
    ("x", "b", 3),
    ("x", "c", 4),
    ("y", "a", 5),
    ("y", "b", 6),
    ("y", "c", 7),
    ("z", "a", 8),
    ("z", "b", 9),
    ("z", "c", 10),
];
pub const PORTS: [u16; 2] = [80, 81];
/// A packet takes microseconds here: one that did not come in this time was dropped.
const PATIENCE: Duration = Duration::from_millis(400);

/// From pod, to pod, port.
pub type Reached = BTreeSet<(String, String, u16)>;

struct End {
    name: String,
    addresses: [IpAddr; 2],
    at: Arc<Namespace>,
    tcp: Vec<TcpListener>,
    udp: Vec<(u16, UdpSocket)>,
}

pub struct Lab {
    pub node: Namespace,
    pub world: World,
    pub agent: Node,
    pub policies: Policies,
    pub view: View,
    ends: Vec<End>,
    _directory: tempfile::TempDir,
}

fn is_here(namespace: &str) -> bool {
    namespace != "z"
}

/// As upstream's tests have it, with a port of each protocol that has a name.
pub fn world() -> World {
    let pods = PODS.iter().map(|(namespace, name, number)| {
        let mut pod = pod(namespace, name, json!({ "pod": name }), if is_here(namespace) { "here" } else { "there" }, *number, 80);
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        let ports = json!([
            { "name": "serve-80", "containerPort": 80 },
            { "name": "serve-81", "containerPort": 81 },
            { "name": "serve-80-udp", "containerPort": 80, "protocol": "UDP" },
        ]);
        container.ports = Some(serde_json::from_value(ports).unwrap());
        pod
    });
    let pods = pods.collect();
    World {
        namespaces: ["x", "y", "z"].map(|name| namespace(name, json!({ "ns": name, "kubernetes.io/metadata.name": name }))).into(),
        pods,
        policies: Vec::new(),
    }
}

impl Lab {
    pub fn new() -> Lab {
        let (node, beyond) = (Namespace::new(), Arc::new(Namespace::new()));
        node.run("ip link add cni0 type bridge");
        node.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", beyond.pid()));
        for (link, addresses) in [("cni0", ["10.244.1.1/24", "fd00:0:0:1::1/64"]), ("eth0", ["192.0.2.1/24", "2001:db8::1/64"])] {
            up(&node, link, &addresses);
        }
        up(&beyond, "eth0", &["192.0.2.2/24", "192.0.2.200/24", "2001:db8::2/64"]);
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.bridge.bridge-nf-call-iptables=1",
            "net.bridge.bridge-nf-call-ip6tables=1",
        ] {
            node.run(&format!("sysctl -q -w {setting}"));
        }
        node.run("ip route add 10.244.2.0/24 via 192.0.2.2");
        node.run("ip route add fd00:0:0:2::/64 via 2001:db8::2");
        beyond.run("ip route add 10.244.1.0/24 via 192.0.2.1");
        beyond.run("ip route add fd00:0:0:1::/64 via 2001:db8::1");
        let ends = PODS.iter().map(|(namespace, name, number)| end(&node, &beyond, namespace, name, *number)).collect();

        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        node.install(&root.path("/usr/sbin/nft"));
        let agent = Node::new(root.clone(), InitClient::new(root.init_socket()));
        agent.set_config(Applied { generation: 1, config: machine("worker").config });
        agent.store.put(Hostname::NAME, &Hostname { hostname: "here".to_owned(), source: "config".to_owned() });
        agent.store.put(NodeIps::NAME, &NodeIps { addresses: vec!["192.0.2.1".parse().unwrap()] });
        let described: KubernetesNode = serde_json::from_value(json!({
            "metadata": { "name": "here" }, "spec": { "podCIDRs": ["10.244.1.0/24", "fd00:0:0:1::/64"] }
        }))
        .unwrap();
        agent.store.put("here", &crate::controllers::cluster_node::describe(&described));
        for (link, address) in [("cni0", "10.244.1.1/24"), ("cni0", "fd00:0:0:1::1/64"), ("eth0", "192.0.2.1/24")] {
            let address =
                Address { link: link.to_owned(), address: address.parse().unwrap(), owned: false, state: AddressState::default() };
            agent.store.put(&format!("{link}/{}", address.address), &address);
        }
        // As on a machine, where Services and masquerading have the kernel keep track of connections before there is any pod.
        node.run("nft add table inet track");
        node.run("nft add chain inet track prerouting { type filter hook prerouting priority 0 ; }");
        node.run("nft add rule inet track prerouting ct state new accept");
        let view = View::default();
        let lab = Lab { node, world: world(), agent, policies: Policies::new(view.clone()), view, ends, _directory: directory };
        let (deadline, all) = (std::time::Instant::now() + Duration::from_secs(20), all_but(&[]));
        // Links take a moment to come up.
        while lab.tcp(false) != all || lab.tcp(true) != all {
            assert!(std::time::Instant::now() < deadline, "without policies, the test's own network does not let all through");
        }
        lab
    }

    /// Has the agent hear of another cluster, and do all that it has to; how many rounds with something to do that took.
    pub fn change(&mut self, change: impl FnOnce(&mut World)) -> usize {
        change(&mut self.world);
        self.hear();
        self.settle()
    }

    pub fn hear(&self) {
        let cluster = self.world.cluster();
        self.view.update(|known, _, listed| {
            *known = cluster;
            *listed = view::Listed { policies: true, namespaces: true, pods: true };
            true
        });
    }

    pub fn settle(&mut self) -> usize {
        let Lab { node, policies, agent, .. } = self;
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        node.enter(|| {
            runtime().block_on(async {
                for rounds in 0..4 {
                    let seen = policies.observe(agent).await.unwrap();
                    match policies.plan(&seen) {
                        Plan::Settled => return rounds,
                        Plan::Waiting(missing) => panic!("{missing:?}"),
                        Plan::Act(actions) => {
                            for action in actions {
                                policies.apply(action, agent).await.unwrap();
                            }
                        }
                    }
                }
                panic!("it does not settle");
            })
        })
    }

    /// Whether the agent does nothing yet, for want of something.
    pub fn waits(&mut self) -> bool {
        let Lab { node, policies, agent, .. } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        node.enter(|| {
            let seen = runtime.block_on(policies.observe(agent)).unwrap();
            matches!(policies.plan(&seen), Plan::Waiting(_))
        })
    }

    /// As the kernel has it; empty without one.
    pub fn table(&self) -> String {
        self.node.text(&["nft", "list", "table", "inet", render::TABLE])
    }

    fn end(&self, name: &str) -> &End {
        self.ends.iter().find(|end| end.name == name).unwrap()
    }

    pub fn namespace(&self, name: &str) -> &Namespace {
        &self.end(name).at
    }

    pub fn address(&self, name: &str, ipv6: bool) -> IpAddr {
        self.end(name).addresses[usize::from(ipv6)]
    }

    /// Whom a TCP connection reaches from whom, tried all at once.
    pub fn tcp(&self, ipv6: bool) -> Reached {
        let family = usize::from(ipv6);
        let tried = std::thread::scope(|scope| {
            let from_one = |from: &End| {
                let source = SocketAddr::new(from.addresses[family], 0);
                let targets: Vec<_> =
                    self.ends.iter().flat_map(|to| PORTS.map(|port| (to.name.clone(), to.addresses[family], port))).collect();
                let name = from.name.clone();
                let at = from.at.clone();
                scope.spawn(move || {
                    at.enter(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        let tries = targets.into_iter().map(|(to, address, port)| {
                            let name = name.clone();
                            async move { connects(source, SocketAddr::new(address, port)).await.then_some((name, to, port)) }
                        });
                        runtime.block_on(futures::future::join_all(tries))
                    })
                })
            };
            let threads: Vec<_> = self.ends.iter().map(from_one).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).flatten().collect()
        });
        self.forget_connections();
        tried
    }

    /// Whom a datagram reaches from whom.
    pub fn udp(&self, ipv6: bool) -> Reached {
        let family = usize::from(ipv6);
        for from in &self.ends {
            from.at.enter(|| {
                let socket = UdpSocket::bind(SocketAddr::new(from.addresses[family], 0)).unwrap();
                for to in &self.ends {
                    for port in PORTS {
                        let said = format!("{} {}", from.name, to.name);
                        // What is rejected is told of with the next packet.
                        let _ = socket.send_to(said.as_bytes(), SocketAddr::new(to.addresses[family], port));
                    }
                }
            });
        }
        std::thread::sleep(PATIENCE);
        let mut reached = Reached::new();
        for to in &self.ends {
            for (port, socket) in &to.udp {
                let mut buffer = [0; 64];
                while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                    let said = std::str::from_utf8(&buffer[..length]).unwrap();
                    let (from, to) = said.split_once(' ').unwrap();
                    reached.insert((from.to_owned(), to.to_owned(), *port));
                }
            }
        }
        reached
    }

    /// Whom the beginning of an SCTP association reaches, over IPv4. Neither end needs to know SCTP: it is sent as it is, and counted.
    pub fn sctp(&self, from: &str, to: &str, port: u16) -> bool {
        let to = self.end(to);
        let packet: String = init_of_sctp(port).iter().map(|byte| format!("{byte:02x}")).collect();
        let script = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132); s.bind(('{}', 0)); \
             s.sendto(bytes.fromhex('{packet}'), ('{}', 0))",
            self.end(from).addresses[0],
            to.addresses[0]
        );
        to.at.run("nft add table ip count");
        to.at.run("nft add chain ip count input { type filter hook input priority 0 ; }");
        to.at.run("nft add counter ip count seen");
        to.at.run(&format!("nft add rule ip count input ip daddr {} sctp dport {port} counter name seen", to.addresses[0]));
        assert!(self.end(from).at.command("python3").args(["-c", &script]).status().unwrap().success());
        let counted = to.at.text(&["nft", "list", "counter", "ip", "count", "seen"]);
        to.at.run("nft delete table ip count");
        !counted.contains("packets 0")
    }

    /// Takes what was connected off the listeners' queues, and gives it up.
    fn forget_connections(&self) {
        for end in &self.ends {
            for listener in &end.tcp {
                while listener.accept().is_ok() {}
            }
        }
    }

    /// Takes one connection.
    pub fn accept(&self, name: &str, local: SocketAddr) -> std::net::TcpStream {
        let listener = self.end(name).tcp.iter().find(|listener| listener.local_addr().unwrap() == local).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (stream, _) = listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        stream
    }
}

fn up(namespace: &Namespace, link: &str, addresses: &[&str]) {
    namespace.run(&format!("ip link set {link} up"));
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        namespace.run(&format!("ip address add {address} dev {link}{nodad}"));
    }
}

fn end(node: &Namespace, beyond: &Arc<Namespace>, namespace: &str, name: &str, number: u8) -> End {
    let here = is_here(namespace);
    let third = if here { 1 } else { 2 };
    let addresses = [format!("10.244.{third}.{number}"), format!("fd00:0:0:{third}::{number}")];
    let at = if here {
        let at = Namespace::new();
        let link = format!("veth{number}");
        node.run(&format!("ip link add {link} type veth peer name eth0 netns {}", at.pid()));
        node.run(&format!("ip link set {link} master cni0 up"));
        // A pod may reach itself through a Service.
        node.run(&format!("ip link set {link} type bridge_slave hairpin on"));
        at.run("ip link set lo up");
        up(&at, "eth0", &[&format!("{}/24", addresses[0]), &format!("{}/64", addresses[1])]);
        at.run("ip route add default via 10.244.1.1");
        at.run("ip -6 route add default via fd00:0:0:1::1");
        Arc::new(at)
    } else {
        up(beyond, "eth0", &[&format!("{}/32", addresses[0]), &format!("{}/128", addresses[1])]);
        beyond.run("ip link set lo up");
        beyond.clone()
    };
    let addresses = addresses.map(|address| address.parse().unwrap());
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for (address, port) in addresses.into_iter().flat_map(|address: IpAddr| PORTS.map(|port| (address, port))) {
        let (listener, socket) = at.enter(|| {
            (TcpListener::bind(SocketAddr::new(address, port)).unwrap(), UdpSocket::bind(SocketAddr::new(address, port)).unwrap())
        });
        listener.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        tcp.push(listener);
        udp.push((port, socket));
    }
    End { name: format!("{namespace}/{name}"), addresses, at, tcp, udp }
}

async fn connects(from: SocketAddr, to: SocketAddr) -> bool {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(from).unwrap();
    matches!(timeout(PATIENCE, socket.connect(to)).await, Ok(Ok(_)))
}

/// A packet with chunk INIT (RFC 9260, 3.3.2), whose checksum is little-endian in effect.
fn init_of_sctp(port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(40000u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(1u32.to_be_bytes());
    packet.extend(65536u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1u32.to_be_bytes());
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

/// From whom to whom, on which ports: `x/a`, `x/*` or `*`.
pub type Row = (&'static str, &'static str, &'static [u16]);

/// All pairs on all ports, less those that are blocked. Nobody keeps a pod from itself.
pub fn all_but(blocked: &[Row]) -> Reached {
    let matches = |pattern: &str, name: &str| {
        let inside = |namespace: &str| name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        pattern == "*" || pattern == name || pattern.strip_suffix("/*").is_some_and(inside)
    };
    let names = || PODS.iter().map(|(namespace, name, _)| format!("{namespace}/{name}"));
    let mut reached = Reached::new();
    for (from, to) in names().flat_map(|from| names().map(move |to| (from.clone(), to))) {
        for port in PORTS {
            let is_blocked = |(f, t, ports): &Row| matches(f, &from) && matches(t, &to) && ports.contains(&port);
            if from == to || !blocked.iter().any(is_blocked) {
                reached.insert((from.clone(), to.clone(), port));
            }
        }
    }
    reached
}
