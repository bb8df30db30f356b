use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ::machine::Root;
use ::machine::config::{Allow, AllowProtocol, Cni, Config, FirewallDefault, OverlayBackend, ProxyMode};

use super::openings::{Opening, openings};
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::node::Applied;

fn nodes() -> BTreeSet<IpAddr> {
    ["192.0.2.10", "192.0.2.20", "2001:db8::10"].into_iter().map(|text| text.parse().unwrap()).collect()
}

fn seen(config: &Arc<Config>) -> Seen {
    Seen { config: Some(config.clone()), nodes: nodes(), kernel: Kernel::Nothing, told: BTreeMap::new() }
}

/// Both families, a range of ports, and networks within each other.
fn open(config: &mut Config) {
    config.cluster.network.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()];
    config.machine.network.firewall.allow = vec![
        Allow { protocol: AllowProtocol::Tcp, port: Some(443), end_port: None, from: Vec::new() },
        Allow {
            protocol: AllowProtocol::Udp,
            port: Some(5000),
            end_port: Some(5010),
            from: ["198.51.100.0/24", "198.51.100.128/25", "2001:db8:1::/48"].map(|text| text.parse().unwrap()).into(),
        },
        Allow { protocol: AllowProtocol::Sctp, port: None, end_port: None, from: Vec::new() },
    ];
}

#[test]
fn rules_by_role_and_config() {
    for (file, name) in [("worker.nft", "worker"), ("controlplane.nft", "controlplane")] {
        let seen = seen(&changed(&machine(name), open).config);
        let Plan::Act(actions) = plan::plan(&seen) else { panic!() };
        let [Action::Load(rules), Action::Tell(told)] = &actions[..] else { panic!("{actions:?}") };
        crate::golden::check(&format!("src/controllers/firewall/golden/{file}"), rules);
        let settled = Seen { kernel: Kernel::Rules(rules.clone()), told: told.clone(), ..seen.clone() };
        assert_eq!(plan::plan(&settled), Plan::Settled);
        let touched = Seen { kernel: Kernel::Unknown, told: told.clone(), ..seen };
        assert_eq!(plan::plan(&touched), Plan::Act(vec![Action::Load(rules.clone())]));
    }
}

#[test]
fn somebody_elses_network_has_no_firewall_but_by_word() {
    let accepts = |change: fn(&mut Config)| plan::plan(&seen(&changed(&machine("worker"), change).config)) == Plan::Settled;
    assert!(accepts(|config| config.cluster.network.cni = Cni::None));
    assert!(accepts(|config| config.cluster.network.proxy.mode = ProxyMode::Ipvs));
    assert!(accepts(|config| config.machine.network.firewall.default = Some(FirewallDefault::Accept)));
    assert!(!accepts(|_| {}));
    assert!(!accepts(|config| {
        config.cluster.network.cni = Cni::None;
        config.machine.network.firewall.default = Some(FirewallDefault::Deny);
    }));
    let accepting = changed(&machine("worker"), |config| config.machine.network.firewall.default = Some(FirewallDefault::Accept));
    let left = Seen { kernel: Kernel::Unknown, ..seen(&accepting.config) };
    assert_eq!(plan::plan(&left), Plan::Act(vec![Action::Remove]), "a table from before goes");
    assert!(matches!(plan::plan(&Seen { config: None, ..left }), Plan::Waiting(_)), "what is there stays");
}

/// What is open to all, but for what the config allows.
fn open_to_all(role: &str, change: impl FnOnce(&mut Config)) -> String {
    let config = changed(&machine(role), change).config;
    let is_open = |opening: &&Opening| opening.from == openings::Origin::Anywhere;
    let words = |opening: &Opening| format!("{} {}", opening.name, opening.told().1.ports);
    openings(&config).iter().filter(is_open).map(words).collect::<Vec<_>>().join(", ")
}

#[test]
fn ports_that_machines_need_are_theirs_alone_where_their_networks_are_known() {
    let by_all = "node-ports-tcp 30000-32767, node-ports-udp 30000-32767, node-ports-sctp 30000-32767";
    assert_eq!(open_to_all("worker", |_| {}), format!("machine-api 50000, kubelet 10250, proxy-health 10256, {by_all}"));
    let known = |config: &mut Config| {
        config.machine.network.firewall.machines = vec!["192.0.2.0/24".parse().unwrap()];
        config.cluster.network.overlay.backend = OverlayBackend::Wireguard;
        config.cluster.network.proxy.mode = ProxyMode::None;
    };
    assert_eq!(open_to_all("controlplane", known), "machine-api 50000, kubernetes-api 6443");
    let wireguard = |config: &mut Config| config.cluster.network.overlay.backend = OverlayBackend::Wireguard;
    assert!(open_to_all("worker", wireguard).ends_with("wireguard 8472-8473"));
}

#[test]
fn node_ports_as_the_api_server_has_them() {
    for (given, open) in [("20000-22767", "20000-22767"), ("20000+10", "20000-20010"), ("20000", "20000"), ("9-1", "30000-32767")] {
        let opened = open_to_all("worker", |config| {
            config.cluster.api_server.extra_args.insert("service-node-port-range".to_owned(), given.to_owned());
        });
        assert!(opened.contains(&format!("node-ports-tcp {open},")), "{given}: {opened}");
    }
}

/// Every host's listener is there; what does not let it be reached is told by ICMP.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(from: &Namespace, to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))
}

/// A machine between a stranger, another machine of its cluster and a pod. Needs root, nft and iproute2.
struct Site {
    machine: Namespace,
    stranger: Namespace,
    node: Namespace,
    pod: Namespace,
    board: Node,
    _directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let (machine, stranger, node, pod) = (Namespace::new(), Namespace::new(), Namespace::new(), Namespace::new());
        machine.run("ip link set lo up");
        for (link, peer, network) in [("eth0", &stranger, "192.0.2"), ("eth1", &node, "198.51.100"), ("pod0", &pod, "10.244.1")] {
            machine.run(&format!("ip link add {link} type veth peer name eth0 netns {}", peer.pid()));
            machine.run(&format!("ip address add {network}.1/24 dev {link}"));
            machine.run(&format!("ip link set {link} up"));
            peer.run(&format!("ip address add {network}.2/24 dev eth0"));
            peer.run("ip link set eth0 up");
            peer.run(&format!("ip route add default via {network}.1"));
        }
        machine.run("ip address add 2001:db8::1/64 dev eth0 nodad");
        stranger.run("ip address add 2001:db8::2/64 dev eth0 nodad");
        machine.run("sysctl -q -w net.ipv4.ip_forward=1");
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        machine.install(&root.path("/usr/sbin/nft"));
        let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
        board.store.put(Hostname::NAME, &Hostname { hostname: "cp-1".to_owned(), source: "config".to_owned() });
        Site { machine, stranger, node, pod, board, _directory: directory }
    }

    fn configure(&self, generation: u64, change: impl FnOnce(&mut Config)) {
        self.board.set_config(Applied { generation, config: changed(&machine("worker"), change).config });
    }

    /// Whether there was anything to do.
    async fn settle(&self, firewall: &mut Firewall) -> bool {
        let seen = firewall.observe(&self.board).await.unwrap();
        let Plan::Act(actions) = firewall.plan(&seen) else { return false };
        for action in actions {
            firewall.apply(action, &self.board).await.unwrap();
        }
        let seen = firewall.observe(&self.board).await.unwrap();
        assert_eq!(firewall.plan(&seen), Plan::Settled);
        true
    }
}

#[tokio::test]
async fn strangers_get_what_the_cluster_needs_and_what_is_allowed() {
    let site = Site::new();
    let listen = |at: &Namespace, port: u16| at.enter(|| TcpListener::bind(SocketAddr::new("::".parse().unwrap(), port)).unwrap());
    let (_api, _node_port, service) = (listen(&site.machine, 50000), listen(&site.machine, 30080), listen(&site.machine, 8080));
    let _of_pod = listen(&site.pod, 80);
    site.machine.run("nft add table inet foreign");
    site.machine.run("nft add chain inet foreign pre { type nat hook prerouting priority dstnat ; }");
    site.machine.run("nft add rule inet foreign pre tcp dport 9999 redirect to :8080");
    let foreign = site.machine.text(&["nft", "list", "table", "inet", "foreign"]);
    let mut flow = connect(&site.stranger, "192.0.2.1:8080").expect("without the table all is open");
    let (mut served, _) = service.accept().unwrap();

    let mut firewall = Firewall::default();
    let seen = firewall.observe(&site.board).await.unwrap();
    assert!(matches!(firewall.plan(&seen), Plan::Waiting(_)), "no config, no firewall");
    site.configure(1, |_| {});
    assert!(site.settle(&mut firewall).await);
    let refused = |from: &Namespace, to: &str| connect(from, to).is_err();
    assert!(refused(&site.stranger, "192.0.2.1:8080"));
    assert!(refused(&site.stranger, "[2001:db8::1]:8080"));
    assert!(refused(&site.node, "198.51.100.1:8080"), "it is not known yet who the nodes are");
    for open in ["192.0.2.1:50000", "[2001:db8::1]:50000", "192.0.2.1:30080", "192.0.2.1:9999", "10.244.1.2:80"] {
        connect(&site.stranger, open).unwrap_or_else(|error| panic!("{open}: {error}"));
    }
    connect(&site.pod, "10.244.1.1:8080").expect("pods reach their machine");
    connect(&site.machine, "192.0.2.1:8080").expect("the machine reaches itself");
    flow.write_all(b"still here").unwrap();
    let mut read = [0; 10];
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    served.read_exact(&mut read).unwrap();

    let node = |address: &str| ClusterNode { addresses: vec![address.parse().unwrap()], ..ClusterNode::default() };
    site.board.store.put("node-2", &node("198.51.100.2"));
    assert!(!site.settle(&mut firewall).await, "not all of them are known before the machine's own is");
    site.board.store.put("cp-1", &node("192.0.2.1"));
    assert!(site.settle(&mut firewall).await);
    connect(&site.node, "198.51.100.1:8080").expect("nodes reach each other");

    // An agent that starts again, and does not know the nodes yet.
    site.board.store.replace::<ClusterNode>([]);
    let mut firewall = Firewall::default();
    assert!(site.settle(&mut firewall).await);
    connect(&site.node, "198.51.100.1:8080").expect("it goes on with what the one before it knew");
    assert!(refused(&site.stranger, "192.0.2.1:8080"));

    let allow = Allow { protocol: AllowProtocol::Tcp, port: Some(8080), end_port: None, from: vec!["192.0.2.0/28".parse().unwrap()] };
    site.configure(2, |config| config.machine.network.firewall.allow = vec![allow]);
    assert!(site.settle(&mut firewall).await);
    connect(&site.stranger, "192.0.2.1:8080").expect("it is allowed");
    assert!(refused(&site.stranger, "[2001:db8::1]:8080"), "for one family");
    assert_eq!(site.board.store.get::<FirewallRule>("allow-0").unwrap().from, ["192.0.2.0/28"]);

    // Somebody takes the table away.
    site.machine.run("nft delete table inet corten-firewall");
    firewall.looked_at_kernel = None;
    assert!(site.settle(&mut firewall).await);
    site.configure(3, |config| config.machine.network.firewall.default = Some(FirewallDefault::Accept));
    assert!(site.settle(&mut firewall).await);
    connect(&site.stranger, "[2001:db8::1]:8080").expect("there is no firewall");
    assert!(site.board.store.all::<FirewallRule>().is_empty());
    assert_eq!(site.machine.text(&["nft", "list", "table", "inet", "foreign"]), foreign);
}

/// The kernel follows connections only from the first table on that asks for it: at boot, that is this one.
#[tokio::test]
async fn a_connection_of_before_goes_on() {
    let site = Site::new();
    let server = site.stranger.enter(|| TcpListener::bind("192.0.2.2:6443").unwrap());
    let mut flow = connect(&site.machine, "192.0.2.2:6443").unwrap();
    let (mut served, _) = server.accept().unwrap();
    let mut firewall = Firewall::default();
    site.configure(1, |_| {});
    assert!(site.settle(&mut firewall).await);
    // An answer that the machine waits for.
    served.write_all(b"answer").unwrap();
    let mut read = [0; 6];
    flow.set_read_timeout(Some(PATIENCE)).unwrap();
    flow.read_exact(&mut read).expect("the firewall let the answer through");
    let _listener = site.machine.enter(|| TcpListener::bind("192.0.2.1:8080").unwrap());
    assert!(connect(&site.stranger, "192.0.2.1:8080").is_err(), "new ones are another matter");
}
