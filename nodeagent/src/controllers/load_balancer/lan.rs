//! Two machines on one segment, each with the part that announces, and a neighbour that resolves the address: to the machine that was chosen, and to
//! the other one after that lost its power. Needs root, for namespaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use machine::Root;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::announcer::Announcer;
use super::choose::{Nodes, choose};
use super::service::{Key, Service};
use super::tests::pools;
use super::view::View;
use crate::controller::{self, ControllerStatus};
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::Namespace;
use crate::controllers::real_cluster::until;
use crate::init_client::InitClient;
use crate::node::{Applied, Node};
use crate::resources::load_balancer::{AddressState, LoadBalancerAddress};
use crate::resources::network::{Hostname, NodeIps};
use crate::resources::overlay::ClusterNode;

const PORT: u16 = 8080;

#[test]
fn neighbours_find_an_ipv4_address_where_it_is_announced() {
    check("192.0.2.100", ["192.0.2.1", "192.0.2.12", "192.0.2.13"], 24);
}

#[test]
fn neighbours_find_an_ipv6_address_where_it_is_announced() {
    check("2001:db8::100", ["2001:db8::1", "2001:db8::12", "2001:db8::13"], 64);
}

fn check(address: &str, [neighbours, first, second]: [&str; 3], length: u8) {
    let neighbour = Namespace::new();
    // With an address of its own the bridge keeps it, whichever port comes and goes.
    neighbour.run("ip link set lo up");
    neighbour.run("ip link add lan address 02:00:00:00:00:01 type bridge");
    let own = format!("ip address add {neighbours}/{length} dev lan");
    neighbour.run(&if length == 64 { format!("{own} nodad") } else { own });
    neighbour.run("ip link set lan up");
    let (address, view) = (address.parse().unwrap(), View::default());
    view.update(|state| state.services = Some(Arc::default()));
    let first = Machine::boot(&neighbour, "node-a", first, length, address, &view);
    let second = Machine::boot(&neighbour, "node-b", second, length, address, &view);
    neighbour.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fails_over(&neighbour, first, second, address, &view)).unwrap();
    });
}

async fn fails_over(neighbour: &Namespace, first: Machine, mut second: Machine, address: IpAddr, view: &View) -> Result<()> {
    // As the control plane that leads would: one of both, and the other one once that does not answer.
    let nodes = [(first.name.to_owned(), first.as_node()), (second.name.to_owned(), second.as_node())].into();
    assign(view, address, &nodes, &[("node-a", true), ("node-b", false)]);
    leads_to(address, &first).await?;
    second.says(address, AddressState::Elsewhere).await?;

    let began = Instant::now();
    first.cut_power(neighbour);
    assign(view, address, &nodes, &[("node-a", false), ("node-b", true)]);
    leads_to(address, &second).await?;
    eprintln!("{address} leads to the other machine {:?} after the first one lost its power", began.elapsed());

    // Its agent dies: the kernel lets go of the address.
    second.end();
    until("the kernel forgets an address that nobody renews", || async {
        let addresses = second.namespace.text(&["ip", "-oneline", "address", "show", "dev", "eth0"]);
        ensure!(!addresses.is_empty() && !addresses.contains(&format!(" {address}/")), "{addresses}");
        Ok(())
    })
    .await
}

struct Machine {
    name: &'static str,
    node_ip: IpAddr,
    node: Node,
    namespace: Namespace,
    agent: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _root: tempfile::TempDir,
}

impl Machine {
    /// With the announcer, and a server that says the machine's name.
    fn boot(neighbour: &Namespace, name: &'static str, node_ip: &str, length: u8, address: IpAddr, view: &View) -> Machine {
        let namespace = Namespace::new();
        neighbour.run(&format!("ip link add {name} type veth peer name eth0 netns {}", namespace.pid()));
        neighbour.run(&format!("ip link set {name} master lan up"));
        namespace.run("ip link set lo up");
        let own = format!("ip address add {node_ip}/{length} dev eth0");
        namespace.run(&if length == 64 { format!("{own} nodad") } else { own });
        namespace.run("ip link set eth0 up");

        let (directory, node_ip) = (tempfile::tempdir().unwrap(), node_ip.parse().unwrap());
        let root = Root::new(directory.path());
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let config = changed(&machine("worker"), |config| config.cluster.network.load_balancer = pools(&[&address.to_string()])).config;
        node.set_config(Applied { generation: 1, config });
        node.store.put(Hostname::NAME, &Hostname { hostname: name.to_owned(), source: "config".to_owned() });
        node.store.put(NodeIps::NAME, &NodeIps { addresses: vec![node_ip] });
        let (stop, stopped) = oneshot::channel::<()>();
        let (of, view) = (node.clone(), view.clone());
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(controller::run(Announcer::new(view).unwrap(), of));
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await.unwrap();
                tokio::spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        // Who does not hear it asks again.
                        let _ = stream.write_all(name.as_bytes()).await;
                    }
                });
                let _ = stopped.await;
            });
        });
        Machine { name, node_ip, node, namespace, agent: Some((stop, thread)), _root: directory }
    }

    fn as_node(&self) -> ClusterNode {
        ClusterNode { ready: true, addresses: vec![self.node_ip], ..ClusterNode::default() }
    }

    fn end(&mut self) {
        let Some((stop, thread)) = self.agent.take() else { return };
        drop(stop);
        thread.join().unwrap();
    }

    fn cut_power(mut self, neighbour: &Namespace) {
        // The kernel would answer for the address for as long as connections of the machine are being ended.
        neighbour.run(&format!("ip link delete {}", self.name));
        self.end();
    }

    /// Waits until the machine shows the address so.
    async fn says(&self, address: IpAddr, wanted: AddressState) -> Result<()> {
        until("the machine says so", || async {
            let told = self.node.store.get::<LoadBalancerAddress>(&address.to_string()).map(|told| told.state);
            ensure!(told == Some(wanted), "{told:?}: {:?}", self.node.store.all::<ControllerStatus>());
            Ok(())
        })
        .await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

fn assign(view: &View, address: IpAddr, all: &BTreeMap<String, ClusterNode>, answering: &[(&str, bool)]) {
    let answering = answering.iter().map(|(name, answers)| ((*name).to_owned(), *answers)).collect();
    view.update(|state| {
        let services = Arc::make_mut(state.services.get_or_insert_default());
        let key = Key { namespace: "default".to_owned(), name: "web".to_owned() };
        let service = services.entry(key).or_insert_with(|| Service { addresses: vec![address], ..Service::default() });
        service.announcer = choose(service, &[address], Nodes { all, answering: &answering }, None);
    });
}

/// Waits until the address leads to this machine, from a neighbour that may have talked to another one there.
async fn leads_to(address: IpAddr, machine: &Machine) -> Result<()> {
    until("the machine answers", || async {
        let connected = async {
            let mut stream = TcpStream::connect((address, PORT)).await?;
            let mut found = String::new();
            stream.read_to_string(&mut found).await.map(|_| found)
        };
        let found = tokio::time::timeout(Duration::from_secs(1), connected).await.context("nobody answers")?;
        let told = || machine.node.store.all::<ControllerStatus>();
        let found = found.with_context(|| format!("{:?}", told()))?;
        ensure!(found == machine.name, "{found} answers: {:?}", told());
        Ok(())
    })
    .await?;
    machine.says(address, AddressState::Announced).await
}
