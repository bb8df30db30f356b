//! A control plane and machines that join it, each with its network on one segment.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use controlplane::pki::{self, AuthorityId};
use controlplane::{apiserver, controller_manager, etcd};
use machine::Root;
use machine::config::{Config, Role};
use machine::service::ServiceState;
use nix::sched::{CloneFlags, unshare};
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

const CONTROL_PLANE: u8 = 10;

/// The segment, with a control plane whose thread is the caller's.
pub struct Lan {
    control_plane: MachineUnderTest,
    /// Once it runs.
    agent: Option<Machine>,
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("starting ip (Debian: iproute2)")?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Lan {
    /// Moves the calling thread into namespaces of its own.
    pub fn new() -> Result<Lan> {
        let mut control_plane = MachineUnderTest::new()?;
        for line in ["link add lan type bridge", "address add 192.0.2.1/24 dev lan", "link set lan up"] {
            ip(line)?;
        }
        let cluster = &mut control_plane.config.cluster;
        cluster.endpoint = format!("https://{}:6443", address(CONTROL_PLANE));
        cluster.control_planes = vec![format!("{}:50000", address(CONTROL_PLANE))];
        Ok(Lan { control_plane, agent: None })
    }

    pub async fn start_control_plane(&mut self) -> Result<()> {
        let machine = &mut self.control_plane;
        let membership = etcd::Membership::bootstrap(&machine.facts)?;
        machine.start(etcd::render(&machine.config, &machine.facts, &machine.credentials, &membership)?).await?;
        machine.start(apiserver::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
        let super_user = machine.client(&pki::super_user(super::PATIENCE * 20))?;
        until("the API server is ready", || async { Ok(super_user.readyz().await?) }).await?;
        machine.start(controller_manager::render(&machine.config, &machine.facts, &machine.credentials)?).await?;

        let agent = Machine::at(machine.facts.root.clone(), SocketAddr::from(([0, 0, 0, 0], api::PORT))).await;
        let node = agent.node.clone();
        configure(&node, &machine.facts.node_name, address(CONTROL_PLANE), machine.config.clone());
        start(&node);
        tokio::spawn(controller::run(Manifests::default(), node.clone()));
        tokio::spawn(controller::run(MachineRecords::default(), node.clone()));
        tokio::spawn(approver::follow(node.clone()));
        tokio::spawn(controller::run(Approver, node.clone()));
        until("the manifests are applied", || async {
            // The played init knows nothing of it, and tells all that it knows when it is asked first.
            node.store.put("kube-apiserver", &service("kube-apiserver", ServiceState::Ready));
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
        let (told, hears) = oneshot::channel();
        let (plugged, plug) = oneshot::channel();
        let (work, jobs) = mpsc::channel(4);
        let (owned, ip) = (name.to_owned(), address(last));
        let thread = std::thread::spawn(move || run(&owned, ip, config, told, plug, jobs));
        let (tid, node, directory) = hears.await.context("the machine ended before it began")?;
        self::ip(&format!("link add v{last}x{} type veth peer name eth0 netns {tid}", tid % 1000))?;
        self::ip(&format!("link set v{last}x{} master lan up", tid % 1000))?;
        plugged.send(()).ok().context("the machine ended before it was plugged in")?;
        Ok(Joiner { name: name.to_owned(), node, work, thread: Some(thread), _directory: directory })
    }

    /// The control plane's.
    pub fn admission(&self) -> Result<Admission> {
        Ok(Admission::new(self.agent.as_ref().context("the control plane does not run")?.node.clone()))
    }

    pub fn control_plane_name(&self) -> String {
        self.control_plane.facts.node_name.clone()
    }

    pub fn logs(&self) -> String {
        let agent = self.agent.as_ref().map(|agent| agent.events().join("\n")).unwrap_or_default();
        format!("{}\n== agent\n{agent}", self.control_plane.logs())
    }
}

type Job = Box<dyn FnOnce(Node, String) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A machine that joins; it ends with the value.
pub struct Joiner {
    pub name: String,
    pub node: Node,
    work: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
    _directory: Arc<tempfile::TempDir>,
}

impl Joiner {
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
        self.work = mpsc::channel(1).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
    told: oneshot::Sender<(i32, Node, Arc<tempfile::TempDir>)>,
    plug: oneshot::Receiver<()>,
    mut jobs: mpsc::Receiver<Job>,
) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let root = Root::new(directory.path());
    std::fs::create_dir_all(root.path("/dev")).unwrap();
    std::fs::write(root.path("/dev/console"), "").unwrap();
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    told.send((nix::unistd::gettid().as_raw(), node.clone(), directory)).ok().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        plug.await.unwrap();
        for line in ["link set lo up".to_owned(), format!("address add {ip}/24 dev eth0"), "link set eth0 up".to_owned()] {
            self::ip(&line).unwrap();
        }
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
