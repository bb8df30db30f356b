//! Control planes that run a real etcd each, in network namespaces of their own on one segment: the agent's own controllers bring them about,
//! and init is played. They need root.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use controlplane::generate::{Options, generate};
use controlplane::pki::CertificateId;
use machine::Root;
use machine::config::Config;
use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};
use machine::service::{ServiceId, ServiceSpec, ServiceState, ServiceStatus};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::oneshot;

use super::{Access, secrets};
use crate::bootstrap::Bootstrap;
use crate::components::component;
use crate::controller::{self, ControllerStatus};
use crate::controllers::etcd::{Etcd, ID};
use crate::controllers::etcd_members::EtcdMembers;
use crate::controllers::etcd_repair::EtcdRepairs;
use crate::controllers::namespace::Namespace;
use crate::controllers::pki::{Keyring, Pki};
use crate::controllers::service::Supervised;
use crate::init_client::InitClient;
use crate::node::{Applied, Node};
use crate::resources::network::{Hostname, NodeIps};
use crate::resources::time::TimeStatus;
use crate::resources::{bootstrap, services};
use crate::server::testing::Init;

/// What connects the machines.
pub struct Segment {
    switch: Namespace,
    count: usize,
}

/// A machine; its disk outlives its boots.
pub struct Machine {
    pub index: usize,
    namespace: Namespace,
    disk: TempDir,
    config: Config,
    boot: Option<Boot>,
}

struct Boot {
    node: Node,
    end: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Segment {
    /// For so many machines; `controlPlanes` of each names all of them.
    pub fn new(count: usize) -> Segment {
        let switch = Namespace::new();
        switch.run("ip link set lo up");
        switch.run("ip link add br0 type bridge");
        switch.run("ip link set br0 up");
        Segment { switch, count }
    }

    /// The machine with that number, from 1 on; powered off.
    pub fn machine(&self, index: usize) -> Machine {
        let namespace = Namespace::new();
        self.switch.run(&format!("ip link add port{index} type veth peer name eth0 netns {}", namespace.pid()));
        self.switch.run(&format!("ip link set port{index} master br0 up"));
        namespace.run("ip link set lo up");
        namespace.run("ip link set eth0 up");
        namespace.run(&format!("ip address add {}/24 dev eth0", address(index)));
        Machine { index, namespace, disk: tempfile::tempdir().unwrap(), config: self.config(), boot: None }
    }

    /// Whether the machine is connected.
    pub fn connect(&self, index: usize, connected: bool) {
        self.switch.run(&format!("ip link set port{index} {}", if connected { "up" } else { "down" }));
    }

    fn config(&self) -> Config {
        let machine_endpoints = (1..=self.count).map(|index| address(index).to_string()).collect();
        let options = Options { machine_endpoints, ..Options::new(SystemTime::now()) };
        let document = generate("demo", &format!("https://{}:6443", address(1)), secrets(), &options).unwrap().controlplane;
        Config { cluster: document.cluster, machine: document.machine }
    }
}

/// `10.5.0.11` for the first.
pub fn address(index: usize) -> IpAddr {
    IpAddr::from([10, 5, 0, 10 + u8::try_from(index).unwrap()])
}

pub fn name(index: usize) -> String {
    format!("cp-{index}")
}

impl Machine {
    /// Powers it on.
    pub fn start(&mut self) {
        assert!(self.boot.is_none(), "it runs");
        let root = Root::new(self.disk.path());
        std::fs::create_dir_all(root.path("/dev")).unwrap();
        std::fs::write(root.path("/dev/console"), "").unwrap();
        std::fs::create_dir_all(root.etcd_data().parent().unwrap()).unwrap();
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let (end, ended) = oneshot::channel();
        let namespace = std::fs::File::open(self.namespace.path()).unwrap();
        let (index, config, given) = (self.index, self.config.clone(), node.clone());
        let thread = std::thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = run(given, index, config) => {}
                    _ = ended => {}
                }
            });
            // What runs on it ends with it: etcd is killed.
            drop(runtime);
        });
        self.boot = Some(Boot { node, end, thread });
    }

    /// Cuts its power.
    pub fn cut(&mut self) {
        let Boot { end, thread, .. } = self.boot.take().expect("it runs");
        end.send(()).unwrap();
        thread.join().unwrap();
    }

    /// What it wrote on the volumes STATE and ETCD is gone.
    pub fn wipe(&self, volumes: &[Volume]) {
        assert!(self.boot.is_none(), "it runs");
        let root = self.root();
        for volume in volumes {
            match volume {
                Volume::State => std::fs::remove_dir_all(root.state()).unwrap(),
                Volume::Etcd => std::fs::remove_dir_all(root.etcd_data()).unwrap(),
                Volume::Ephemeral => {}
            }
        }
    }

    pub fn root(&self) -> Root {
        Root::new(self.disk.path())
    }

    pub fn node(&self) -> &Node {
        &self.boot.as_ref().expect("it runs").node
    }

    /// Does a piece of work where the machine is.
    pub fn run<T: Send + 'static>(&self, work: impl AsyncFnOnce(Node) -> T + Send + 'static) -> T {
        let namespace = std::fs::File::open(self.namespace.path()).unwrap();
        let node = self.node().clone();
        let doing = std::thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work(node))
        });
        doing.join().unwrap()
    }

    /// Asks its etcd, once the agent has a certificate for that.
    pub fn ask<T: Send + 'static>(&self, work: impl AsyncFnOnce(Access<'_>) -> T + Send + 'static) -> T {
        self.until("the agent has a certificate for etcd", |node| Keyring::default().get(node, CertificateId::EtcdHealthClient).is_some());
        self.run(async move |node| {
            let certificate = Keyring::default().get(&node, CertificateId::EtcdHealthClient).unwrap();
            let config = node.config().unwrap().config;
            work(crate::etcd::access(&config, &certificate)).await
        })
    }

    pub fn bootstrap(&self) {
        self.until_waits_for("bootstrap of the cluster");
        self.run(async |node| Bootstrap::new(node).bootstrap(false, "a test").await.unwrap());
    }

    /// What the agent has on record of its cluster.
    pub fn record(&self) -> Option<controlplane::bootstrap::Record> {
        bootstrap::load(&self.root()).unwrap().map(|bootstrap| bootstrap.record)
    }

    /// What the controller of etcd's members waits for.
    pub fn waits_for(&self) -> String {
        let status = self.node().store.get::<ControllerStatus>("etcdmembers");
        status.map(|status| status.waits_for.join(", ")).unwrap_or_default()
    }

    pub fn until_waits_for(&self, words: &str) {
        self.until(&format!("{} waits for {words:?}", name(self.index)), |_| self.waits_for().contains(words));
    }

    /// Waits until something is so on the machine.
    pub fn until(&self, what: &str, is_so: impl Fn(&Node) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        while !is_so(self.node()) {
            assert!(std::time::Instant::now() < deadline, "{what}: {}", self.story());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn until_voter(&self) {
        let full =
            |record: controlplane::bootstrap::Record| record.origin == controlplane::bootstrap::Origin::Bootstrap || !record.is_joining();
        self.until("it is a member with a vote", |node| self.record().is_some_and(full) && services::is_ready(&node.store, ID));
    }

    /// What happened, for a test that failed.
    fn story(&self) -> String {
        let node = self.node();
        let controllers = node.store.list("controllers").into_iter().map(|object| format!("{}: {}", object.name, object.value));
        let members = node.store.list("etcdmembers").into_iter().map(|object| format!("{}: {}", object.name, object.value));
        let log = std::fs::read_to_string(self.disk.path().join("etcd.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        let lines: Vec<String> = controllers.chain(members).collect();
        format!(
            "{}\n{}\n{:?}\n{}",
            name(self.index),
            lines.join("\n"),
            self.record(),
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.boot.is_some() {
            self.cut();
        }
    }
}

/// A boot, as far as etcd has to do with it.
async fn run(node: Node, index: usize, config: Config) {
    let _init = Init::start(&node.root.init_socket(), VolumeState::Open);
    Bootstrap::new(node.clone()).load().unwrap();
    node.store.put(Hostname::NAME, &Hostname { hostname: name(index), source: "config".to_owned() });
    node.store.put(NodeIps::NAME, &NodeIps { addresses: vec![address(index)] });
    node.store.put(TimeStatus::NAME, &TimeStatus { synchronized: true, ..TimeStatus::default() });
    for volume in [Volume::State, Volume::Etcd] {
        let status = VolumeStatus { volume, state: VolumeState::Open, size_bytes: 1, device: String::new() };
        node.store.put(&services::volume_name(volume), &status);
    }
    node.set_config(Applied { generation: 1, config: Arc::new(config) });
    tokio::join!(
        controller::run(Pki::default(), node.clone()),
        controller::run(EtcdMembers::default(), node.clone()),
        controller::run(EtcdRepairs::default(), node.clone()),
        controller::run(Supervised::<Etcd>::default(), node.clone()),
        supervise(node),
    );
}

/// Runs etcd as its spec says, as init does.
async fn supervise(node: Node) {
    let mut board = node.store.revision();
    let socket = node.root.path("/run/notify.sock");
    loop {
        board.mark_unchanged();
        let Some(spec) = node.store.get::<ServiceSpec>(ID) else {
            board.changed().await.unwrap();
            continue;
        };
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(node.root.path("/etcd.log")).unwrap();
        let mut etcd = Command::new(component("etcd/bin/etcd"))
            .args(&spec.args)
            .env("NOTIFY_SOCKET", &socket)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tell(&node, ServiceState::Starting);
        let mut ready = [0; 64];
        loop {
            tokio::select! {
                told = notify.recv(&mut ready) => if ready[..told.unwrap()].starts_with(b"READY=1") { tell(&node, ServiceState::Ready) },
                _ = etcd.wait() => break,
                _ = board.changed() => {
                    if node.store.get::<ServiceSpec>(ID).as_ref() != Some(&spec) {
                        etcd.kill().await.unwrap();
                        break;
                    }
                }
            }
        }
        tell(&node, ServiceState::Ended);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn tell(node: &Node, state: ServiceState) {
    let status =
        ServiceStatus { id: ServiceId::new(ID).unwrap(), state, pid: None, restarts: 0, last_exit: None, since_boot: Duration::ZERO };
    node.store.put(ID, &status);
}
