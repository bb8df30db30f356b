//! Five hundred peers against the real kernel: whatever they do and whenever the agent dies, the kernel has what a model of it says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::members::{Families, Member, Switch};
use super::plan::{Action, Seen, plan};
use super::state::{Hop, Tables};
use super::{apply, kernel};
use crate::init_client::InitClient;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::overlay::{Announcement, ClusterNode, Tunnel, TunnelEnd, VxlanEnd};
use machine::HardwareAddress;

pub const PEERS: u16 = 500;

/// What is true of a peer, said once; what the kernel has to hold follows from it in `model`, which uses nothing of what it tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    pub address: u16,
    pub device: u16,
}

#[derive(Debug, Clone)]
enum Event {
    Joins(u16),
    Leaves(u16),
    Address(u16, u16),
    Device(u16, u16),
    /// The agent has this many thousandths of its operations done, and is killed; another one begins.
    Dies(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let number = 2..=PEERS + 1;
    prop_oneof![
        8 => number.clone().prop_map(Event::Joins),
        4 => number.clone().prop_map(Event::Leaves),
        4 => (number.clone(), 0..2000_u16).prop_map(|(number, other)| Event::Address(number, other)),
        4 => (number, 0..2000_u16).prop_map(|(number, other)| Event::Device(number, other)),
        1 => (0..1000_u16).prop_map(Event::Dies),
    ]
}

fn happen(peers: &mut BTreeMap<u16, Facts>, event: &Event) {
    // One that is another's is refused, and what the kernel has then is no matter of this test's.
    let is_free = |peers: &BTreeMap<u16, Facts>, value: u16, of: fn(&Facts) -> u16| peers.values().all(|facts| of(facts) != value);
    match event {
        Event::Joins(number) => {
            let facts = Facts { address: *number, device: *number };
            if is_free(peers, *number, |facts| facts.address) && is_free(peers, *number, |facts| facts.device) {
                peers.entry(*number).or_insert(facts);
            }
        }
        Event::Leaves(number) => drop(peers.remove(number)),
        Event::Address(number, other) if is_free(peers, 3000 + other, |facts| facts.address) => {
            peers.entry(*number).and_modify(|facts| facts.address = 3000 + other);
        }
        Event::Device(number, other) if is_free(peers, 3000 + other, |facts| facts.device) => {
            peers.entry(*number).and_modify(|facts| facts.device = 3000 + other);
        }
        Event::Address(..) | Event::Device(..) | Event::Dies(_) => {}
    }
}

/// 203.0.0.0/8 has nothing that a machine could not have.
fn address(number: u16) -> std::net::IpAddr {
    let [high, low] = number.to_be_bytes();
    [203, high, low, 7].into()
}

fn hardware_address(number: u16) -> HardwareAddress {
    let [high, low] = number.to_be_bytes();
    HardwareAddress([2, 7, 7, 7, high, low])
}

fn pods(number: u16) -> ipnet::IpNet {
    let [high, low] = number.to_be_bytes();
    ipnet::IpNet::new([10, 244 + high, low, 0].into(), 24).unwrap()
}

pub fn node(number: u16, facts: Facts) -> ClusterNode {
    let tunnel = VxlanEnd { hardware_address: hardware_address(facts.device), vni: 1 };
    let end = TunnelEnd { address: address(facts.address), tunnel: Some(Tunnel::Vxlan(tunnel)) };
    ClusterNode {
        created_at: format!("2026-11-25T10:00:00Z {number:05}"),
        ready: true,
        pod_cidrs: vec![pods(number)],
        addresses: vec![end.address],
        announcement: Some(Announcement { backend: "vxlan".to_owned(), ends: vec![end] }),
        cpu_millis: 2000,
        ..ClusterNode::default()
    }
}

fn model(peers: &BTreeMap<u16, Facts>) -> Tables {
    let mut tables = Tables::default();
    for (number, facts) in peers {
        let (device, via) = ("flannel.1", pods(*number).network());
        tables.routes.insert(pods(*number), Hop::Neighbour { device, via });
        tables.neighbours.insert((device, via), hardware_address(facts.device));
        tables.forwards.insert((device, hardware_address(facts.device)), address(facts.address));
    }
    tables
}

/// The agent of one machine, in its namespace.
pub struct Agent {
    pub member: Member,
    own: ClusterNode,
    pub board: Node,
}

impl Agent {
    pub fn new(switch: &Switch) -> Agent {
        let member = Member::new(switch, 1, Families { v4: true, v6: false });
        let root = ::machine::Root::new("/nonexistent");
        let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let own = member.node();
        Agent { member, own, board }
    }

    pub fn seen(&self, peers: &BTreeMap<u16, Facts>, kernel: super::state::Kernel) -> Seen {
        let nodes = peers.iter().map(|(number, facts)| (format!("node-{number}"), node(*number, *facts)));
        let machine = crate::controllers::fixtures::changed(&self.member.machine(), |config| {
            config.cluster.network.pod_cidrs = vec!["10.244.0.0/14".parse().unwrap()];
        });
        Seen {
            machine: Ok(machine),
            machine_id: "1".to_owned(),
            nodes: nodes.chain([(self.member.name(), self.own.clone())]).collect(),
            kernel,
            overlays: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    /// One round of an agent that has just been started; a part of it where it dies in its midst. What the kernel has afterwards.
    fn round(&self, peers: &BTreeMap<u16, Facts>, part: Option<u16>) -> Tables {
        let inside = async {
            let netlink = crate::controllers::network::connect().unwrap();
            let seen = self.seen(peers, kernel::read(&netlink).await.unwrap());
            let Plan::Act(actions) = plan(&seen) else { panic!("an agent that starts has something to tell") };
            for action in actions {
                let action = match action {
                    Action::Program(mut operations) => {
                        if let Some(part) = part {
                            operations.truncate(operations.len() * usize::from(part) / 1000);
                        }
                        Action::Program(operations)
                    }
                    Action::TellOverlays(_) | Action::TellPeers(_) | Action::Announce(_) => continue,
                    other => other,
                };
                apply::apply(action, &self.board, &netlink, || None).await.unwrap();
            }
            kernel::read(&netlink).await.unwrap().tables
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.member.host.enter(|| runtime().block_on(inside))
    }
}

/// What the kernel had and is to have it has all the while.
fn stays(before: &Tables, after: &Tables, now: &Tables) -> Result<(), TestCaseError> {
    for (to, hop) in after.routes.iter().filter(|(to, hop)| before.routes.get(*to) == Some(*hop)) {
        prop_assert_eq!(now.routes.get(to), Some(hop));
    }
    for (key, address) in after.neighbours.iter().filter(|(key, address)| before.neighbours.get(*key) == Some(*address)) {
        prop_assert_eq!(now.neighbours.get(key), Some(address));
    }
    for (key, to) in after.forwards.iter().filter(|(key, to)| before.forwards.get(*key) == Some(*to)) {
        prop_assert_eq!(now.forwards.get(key), Some(to));
    }
    Ok(())
}

#[test]
fn whatever_five_hundred_peers_do_the_kernel_has_what_the_model_says() {
    let switch = Switch::new();
    let agent = Agent::new(&switch);
    // Somebody else's, which stay as they are.
    agent.member.host.run("ip route add 198.51.100.0/24 via 192.0.2.77");
    agent.member.host.run("ip route add 10.200.0.0/16 via 192.0.2.77 proto 222");
    agent.member.host.run("ip link add other type vxlan id 7 dstport 4789 nolearning");
    agent.member.host.run("ip link set other up");
    agent.member.host.run("bridge fdb append 02:00:00:00:00:77 dev other dst 192.0.2.77");
    agent.member.host.run("ip neigh add 192.0.2.88 lladdr 02:00:00:00:00:88 dev eth0 nud permanent");
    agent.member.host.run("ip rule add from 10.99.0.0/16 table 222");
    // What the kernel itself adds to links that come up is nobody's.
    let foreign = || {
        let host = &agent.member.host;
        let routes = host.text(&["ip", "route", "show", "table", "all"]);
        let routes: String = routes
            .lines()
            .filter(|line| !line.contains("flannel.1") && !line.contains("proto kernel"))
            .map(|line| format!("{line}\n"))
            .collect();
        let rest = [["bridge", "fdb", "show", "dev", "other"], ["ip", "neigh", "show", "dev", "eth0"], ["ip", "rule", "show", "", ""]];
        routes + &rest.map(|command| host.text(&command.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>())).concat()
    };
    let before = foreign();
    assert!(
        ["198.51.100.0/24", "proto 222", "02:00:00:00:00:77", "02:00:00:00:00:88", "lookup 222"].iter().all(|word| before.contains(word))
    );

    let mut runner = TestRunner::new(ProptestConfig { max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::with_cases(3) });
    let bursts = proptest::collection::vec(proptest::collection::vec(event(), 1..120), 4..8);
    let outcome = runner.run(&bursts, |bursts| {
        // All of them, as a new agent finds a large cluster.
        let mut peers: BTreeMap<u16, Facts> = (2..=PEERS + 1).map(|number| (number, Facts { address: number, device: number })).collect();
        let mut present = agent.round(&peers, None);
        prop_assert_eq!(&present, &model(&peers));
        for burst in bursts {
            for event in &burst {
                happen(&mut peers, event);
                if let Event::Dies(part) = event {
                    let now = agent.round(&peers, Some(*part));
                    stays(&present, &model(&peers), &now)?;
                    present = now;
                }
            }
            present = agent.round(&peers, None);
            prop_assert_eq!(&present, &model(&peers));
        }
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(foreign(), before);
}
