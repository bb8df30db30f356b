//! A control plane and machines that join it, each with its network on one segment.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use controlplane::client::Client;
use controlplane::pki::{self, AuthorityId};
use controlplane::ports::{API_SERVER_PORT, ETCD_CLIENT_PORT};
use controlplane::{apiserver, controller_manager, etcd};
use machine::Root;
use machine::config::{Config, Role};
use machine::service::ServiceState;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::admission::Admission;
use crate::controller::{self, ControllerStatus};
use crate::controllers::approver::{self, Approver};
use crate::controllers::balancer::{self, Balancer};
use crate::controllers::join::Join;
use crate::controllers::machine_record::MachineRecords;
use crate::controllers::manifests::Manifests;
use crate::controllers::pki::Pki;
use crate::controllers::real_cluster::machine_under_test::{MachineUnderTest, until};
use crate::init_client::InitClient;
use crate::node::{Applied, Node};
use crate::resources::manifests::ManifestSet;
use crate::resources::network::{Hostname, NodeIps};
use crate::resources::time::TimeStatus;
use crate::server::testing::{Machine, service};
use crate::stage::StageEvent;

pub const CONTROL_PLANE: u8 = 10;
/// Without an address of its own it takes the lowest of its ports, and another one when that port goes; for up to a minute the machines would send
/// to the old one.
pub const BRIDGE: &str = "link add lan address 02:00:00:00:00:01 type bridge";

/// The segment, with a control plane whose thread is the caller's.
pub struct Lan {
    control_plane: MachineUnderTest,
    ipv6: bool,
    /// Once it runs.
    agent: Option<Machine>,
}

pub fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn address_v6(last: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into()
}

pub fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("starting ip (Debian: iproute2)")?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Lan {
    /// Moves the calling thread into namespaces of its own.
    pub fn new() -> Result<Lan> {
        let control_plane = MachineUnderTest::new()?;
        for line in [BRIDGE, "address add 192.0.2.1/24 dev lan", "link set lan up"] {
            ip(line)?;
        }
        Ok(Lan::of(control_plane, false))
    }

    /// With IPv6 alone: but for loopback, no machine has another address.
    pub fn ipv6() -> Result<Lan> {
        let control_plane = MachineUnderTest::with(address_v6(CONTROL_PLANE), |config| {
            let network = &mut config.cluster.network;
            network.pod_cidrs = vec!["fd00:1::/56".parse().expect("a network")];
            network.service_cidrs = vec!["fd00:2::/112".parse().expect("a network")];
        })?;
        // Unlike ARP, a neighbour is told of addresses of the link alone that it asks on.
        let own = format!("address add {}/64 dev lan nodad", address_v6(CONTROL_PLANE));
        for line in [BRIDGE, "link set lan up", &own] {
            ip(line)?;
        }
        Ok(Lan::of(control_plane, true))
    }

    /// Runs a test in it. What it says when it fails ends with the services' logs.
    pub fn run(mut self, test: impl AsyncFnOnce(&mut Lan) -> Result<()>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(test(&mut self));
        done.with_context(|| self.logs())
    }

    fn of(mut control_plane: MachineUnderTest, ipv6: bool) -> Lan {
        let at = |port| SocketAddr::new(control_plane.facts.node_ips[0], port);
        let (endpoint, agent) = (format!("https://{}", at(API_SERVER_PORT)), at(api::PORT).to_string());
        let cluster = &mut control_plane.config.cluster;
        (cluster.endpoint, cluster.control_planes) = (endpoint, vec![agent]);
        Lan { control_plane, ipv6, agent: None }
    }

    pub fn address(&self, last: u8) -> IpAddr {
        if self.ipv6 { address_v6(last) } else { address(last) }
    }

    pub async fn start_etcd(&mut self) -> Result<()> {
        let machine = &mut self.control_plane;
        let membership = etcd::Membership::bootstrap(&machine.facts)?;
        machine.start(etcd::render(&machine.config, &machine.facts, &machine.credentials, &membership)?).await
    }

    pub async fn start_control_plane(&mut self) -> Result<()> {
        self.start_etcd().await?;
        self.start_api_server().await?;
        let machine = &mut self.control_plane;
        machine.start(controller_manager::render(&machine.config, &machine.facts, &machine.credentials)?).await?;

        let agent = Machine::at(machine.facts.root.clone(), SocketAddr::from(([0; 8], api::PORT))).await;
        let node = agent.node.clone();
        configure(&node, &machine.facts.node_name, machine.facts.node_ips[0], machine.config.clone());
        start(&node);
        tokio::spawn(controller::run(Manifests::default(), node.clone()));
        tokio::spawn(controller::run(MachineRecords::default(), node.clone()));
        tokio::spawn(approver::follow(node.clone()));
        tokio::spawn(controller::run(Approver, node.clone()));
        until("the manifests are applied", || async {
            // The played init knows nothing of it, and tells all that it knows when it is asked first.
            for id in ["etcd", "kube-apiserver"] {
                node.store.put(id, &service(id, ServiceState::Ready));
            }
            node.store.get::<ManifestSet>(ManifestSet::NAME).map(drop).with_context(|| format!("{:?}", controllers(&node)))
        })
        .await?;
        self.agent = Some(agent);
        Ok(())
    }

    fn joining(&self) -> Config {
        let mut config = self.control_plane.config.clone();
        for id in AuthorityId::ALL {
            id.of_mut(&mut config.cluster.certificate_authorities).key = None;
        }
        config
    }

    /// The control plane's own.
    pub fn founder(&self) -> Config {
        self.control_plane.config.clone()
    }

    /// A worker's config.
    pub fn worker(&self) -> Config {
        let mut config = self.joining();
        (config.cluster.service_account_key, config.cluster.encryption_key) = (None, None);
        config.machine.role = Role::Worker;
        config
    }

    pub fn further_control_plane(&self) -> Config {
        self.joining()
    }

    /// Starts a machine with this config on the segment.
    pub async fn join(&self, name: &str, last: u8, config: Config) -> Result<Joiner> {
        self.boot(name, last, config, Arc::new(tempfile::tempdir()?)).await
    }

    /// The same with a disk that is written to already.
    pub async fn boot(&self, name: &str, last: u8, config: Config, disk: Arc<tempfile::TempDir>) -> Result<Joiner> {
        let (told, hears) = oneshot::channel();
        let (plugged, plug) = oneshot::channel();
        let (work, jobs) = mpsc::channel(4);
        let (owned, ip) = (name.to_owned(), self.address(last));
        let directory = disk.clone();
        let thread = std::thread::spawn(move || run(&owned, ip, config, &directory, told, plug, jobs));
        let (tid, node) = hears.await.context("the machine ended before it began")?;
        let port = plug_in(tid, last)?;
        plugged.send(()).ok().context("the machine ended before it was plugged in")?;
        Ok(Joiner { name: name.to_owned(), node, work, thread: Some(thread), port, disk })
    }

    /// Starts an API server of the same etcd on a machine of its own; it ends with the value.
    pub async fn start_further_api_server(&self, name: &str, last: u8) -> Result<ApiServer> {
        let (machine, etcd) = (self.control_plane.beside(name, self.address(last))?, self.address(CONTROL_PLANE));
        let (told, hears) = oneshot::channel();
        let (plugged, plug) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || serve(machine, etcd, told, plug, ready, stopped));
        plug_in(hears.await.context("the machine ended before it began")?, last)?;
        plugged.send(()).ok().context("the machine ended before it was plugged in")?;
        let pid = is_ready.await.context("the machine ended")??;
        Ok(ApiServer { pid, stop: Some(stop), thread: Some(thread) })
    }

    /// Starts the first control plane's API server again.
    pub async fn start_api_server(&mut self) -> Result<()> {
        let machine = &mut self.control_plane;
        machine.start(apiserver::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
        let super_user = machine.client(&pki::super_user(super::PATIENCE * 20))?;
        until("the API server is ready", || async { Ok(super_user.readyz().await?) }).await
    }

    pub fn kill_api_server(&mut self) -> Result<()> {
        self.control_plane.stop("kube-apiserver")
    }

    /// The control plane's.
    pub fn admission(&self) -> Result<Admission> {
        Ok(Admission::new(self.agent.as_ref().context("the control plane does not run")?.node.clone()))
    }

    pub fn super_user(&self) -> Result<Client> {
        self.control_plane.client(&pki::super_user(super::PATIENCE * 20))
    }

    pub fn control_plane_name(&self) -> String {
        self.control_plane.facts.node_name.clone()
    }

    pub fn logs(&self) -> String {
        let agent = self.agent.as_ref().map(|agent| agent.events().join("\n")).unwrap_or_default();
        format!("{}\n== agent\n{agent}", self.control_plane.logs())
    }
}

/// Its port on the segment.
fn plug_in(tid: i32, last: u8) -> Result<String> {
    let port = format!("v{last}x{}", tid % 1000);
    ip(&format!("link add {port} type veth peer name eth0 netns {tid}"))?;
    ip(&format!("link set {port} master lan up"))?;
    Ok(port)
}

/// In the machine's own network.
fn plugged_in(ip: IpAddr) -> Result<()> {
    let address = if ip.is_ipv4() { format!("{ip}/24") } else { format!("{ip}/64 nodad") };
    for line in ["link set lo up".to_owned(), format!("address add dev eth0 {address}"), "link set eth0 up".to_owned()] {
        self::ip(&line)?;
    }
    Ok(())
}

/// An API server that runs until it is dropped.
pub struct ApiServer {
    pid: u32,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid.try_into()?), signal)?)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The machine's etcd is this one's.
pub async fn forward_etcd(of: IpAddr) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", ETCD_CLIENT_PORT)).await?;
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect((of, ETCD_CLIENT_PORT)).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Ok(())
}

fn serve(
    mut machine: MachineUnderTest,
    etcd: IpAddr,
    told: oneshot::Sender<i32>,
    plug: oneshot::Receiver<()>,
    ready: oneshot::Sender<Result<u32>>,
    stopped: oneshot::Receiver<()>,
) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    told.send(nix::unistd::gettid().as_raw()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        plug.await.unwrap();
        let started = async {
            plugged_in(machine.facts.node_ips[0])?;
            forward_etcd(etcd).await?;
            machine.start(apiserver::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
            let super_user = machine.client(&pki::super_user(super::PATIENCE * 20))?;
            until("the further API server is ready", || async { Ok(super_user.readyz().await?) }).await?;
            machine.pid("kube-apiserver")
        };
        let started = started.await.with_context(|| machine.logs());
        let _ = ready.send(started);
        let _ = stopped.await;
    });
}

type Job = Box<dyn FnOnce(Node, String) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A machine that joins; it ends with the value.
pub struct Joiner {
    pub name: String,
    pub node: Node,
    work: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
    port: String,
    disk: Arc<tempfile::TempDir>,
}

impl Joiner {
    /// Ends the machine; what is on its disk stays.
    pub fn cut_power(mut self) -> Arc<tempfile::TempDir> {
        self.end();
        self.disk.clone()
    }

    fn end(&mut self) {
        self.work = mpsc::channel(1).0;
        // The kernel keeps its network for as long as connections of it are being ended, a minute perhaps, and it would answer for the address there.
        let _ = ip(&format!("link delete {}", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub fn set_config(&self, config: Config, generation: u64) {
        self.node.set_config(Applied { generation, config: Arc::new(config) });
    }

    pub fn console(&self) -> String {
        std::fs::read_to_string(self.node.root.path("/dev/console")).unwrap_or_default()
    }

    pub fn controllers(&self) -> Vec<String> {
        controllers(&self.node)
    }

    /// Does something on the machine, in its network.
    pub async fn run<F: Future<Output = Result<()>> + 'static>(&self, job: impl FnOnce(Node, String) -> F + Send + 'static) -> Result<()> {
        let (told, hears) = oneshot::channel();
        let job: Job = Box::new(move |node, name| {
            Box::pin(async move {
                let _ = told.send(job(node, name).await);
            })
        });
        self.work.send(job).await.ok().context("the machine has ended")?;
        hears.await.context("the machine ended")?
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the controllers wait for and fail at.
fn controllers(node: &Node) -> Vec<String> {
    let told = |(name, status): (String, ControllerStatus)| format!("{name}: {:?} {:?} {}", status.state, status.waits_for, status.error);
    node.store.all::<ControllerStatus>().into_iter().map(told).collect()
}

fn run(
    name: &str,
    ip: IpAddr,
    config: Config,
    disk: &tempfile::TempDir,
    told: oneshot::Sender<(i32, Node)>,
    plug: oneshot::Receiver<()>,
    mut jobs: mpsc::Receiver<Job>,
) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let root = Root::new(disk.path());
    std::fs::create_dir_all(root.path("/dev")).unwrap();
    std::fs::write(root.path("/dev/console"), "").unwrap();
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    told.send((nix::unistd::gettid().as_raw(), node.clone())).ok().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        plug.await.unwrap();
        plugged_in(ip).unwrap();
        configure(&node, name, ip, config);
        start(&node);
        while let Some(job) = jobs.recv().await {
            job(node.clone(), name.to_owned()).await;
        }
    });
}

/// What the network's and the clock's controllers would put on the board, and the config in force.
fn configure(node: &Node, name: &str, ip: IpAddr, config: Config) {
    node.store.put(Hostname::NAME, &Hostname { hostname: name.to_owned(), source: "config".to_owned() });
    node.store.put(NodeIps::NAME, &NodeIps { addresses: vec![ip] });
    node.store.put(TimeStatus::NAME, &TimeStatus { settled: true, ..TimeStatus::default() });
    node.set_config(Applied { generation: 1, config: Arc::new(config) });
    node.happened(StageEvent::ConfigInForce);
}

/// What every machine runs of those that have to do with joining.
fn start(node: &Node) {
    tokio::spawn(controller::run(Pki::default(), node.clone()));
    tokio::spawn(controller::run(Join::default(), node.clone()));
    tokio::spawn(controller::run(Balancer::default(), node.clone()));
    tokio::spawn(balancer::membership::follow(node.clone()));
}
