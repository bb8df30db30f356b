//! Machines on one segment, each with its network, its agent and its services on a thread of its own, and machinectl beside them.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use machine::Root;
use machine::config::Role;
use nix::sched::{CloneFlags, unshare};
use tokio::sync::{mpsc, oneshot};

use super::PATIENCE;
use crate::controller::{self, ControllerStatus};
use crate::controllers::approver::{self, Approver};
use crate::controllers::authorities::Authorities;
use crate::controllers::balancer::{self, Balancer};
use crate::controllers::control_plane::{ControlPlane, KubeApiserver, KubeControllerManager, KubeScheduler};
use crate::controllers::etcd::Etcd;
use crate::controllers::etcd_members::EtcdMembers;
use crate::controllers::join::Join;
use crate::controllers::join::real::machines::{BRIDGE, ip};
use crate::controllers::machine::Machine;
use crate::controllers::machine_record::MachineRecords;
use crate::controllers::manifests::Manifests;
use crate::controllers::pki::Pki;
use crate::controllers::real_init::{self, RealInit};
use crate::controllers::service::Supervised;
use crate::node::Node;
use crate::resources::network::{Hostname, NodeIps};
use crate::resources::time::TimeStatus;
use crate::server::testing::{Served, serve_at};

/// Where the user sits: a bridge that all machines hang on.
pub struct Segment {
    home: tempfile::TempDir,
    machinectl: PathBuf,
}

impl Segment {
    /// Moves the calling thread into a network of its own.
    pub fn new() -> Result<Segment> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace; this test needs root")?;
        for line in ["link set lo up", BRIDGE, "address add 192.0.2.1/24 dev lan", "link set lan up"] {
            ip(line)?;
        }
        // The test is target/<profile>/deps/nodeagent-...
        let own = std::env::current_exe()?;
        let machinectl = own.parent().and_then(Path::parent).context("a target directory")?.join("machinectl");
        ensure!(machinectl.exists(), "{} is not there: cargo build -p machinectl", machinectl.display());
        Ok(Segment { home: tempfile::tempdir()?, machinectl })
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The cluster's files, and the user's client config.
    pub async fn generate(&self) -> Result<()> {
        let planes = "192.0.2.11,192.0.2.12";
        self.machinectl(&["gen", "config", "demo", "https://192.0.2.11:6443", "--control-planes", planes]).await?;
        self.machinectl(&["context", "add", "client.yaml"]).await
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.machinectl);
        command.args(args).current_dir(self.home()).env_clear().env("HOME", self.home()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs machinectl in the user's home.
    pub async fn machinectl(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command(args);
        let done = tokio::task::spawn_blocking(move || command.output());
        said(args, &tokio::time::timeout(PATIENCE, done).await.context("machinectl does not end")???)
    }

    /// Kills it in the middle.
    pub async fn machinectl_cut(&self, args: &[&str], now: impl Fn() -> bool) -> Result<()> {
        let mut child = self.command(args).spawn()?;
        let began = Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !now() {
            look.tick().await;
            if child.try_wait()?.is_some() {
                return said(args, &child.wait_with_output()?).and_then(|()| bail!("machinectl ended before it could be cut"));
            }
            ensure!(began.elapsed() < PATIENCE, "the moment to cut machinectl does not come");
        }
        child.kill()?;
        child.wait_with_output()?;
        Ok(())
    }

    /// Starts a machine without a config on the segment.
    pub async fn start(&self, name: &str, last: u8) -> Result<Unit> {
        let (told, hears) = oneshot::channel();
        let (plugged, plug) = oneshot::channel();
        let (begun, begins) = oneshot::channel();
        let (work, jobs) = mpsc::channel(4);
        let (owned, address) = (name.to_owned(), IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
        let thread = std::thread::spawn(move || run(&owned, address, told, plug, begun, jobs));
        let tid: i32 = hears.await.context("the machine ended before it began")?;
        ip(&format!("link add v{last}x{} type veth peer name eth0 netns {tid}", tid % 1000))?;
        ip(&format!("link set v{last}x{} master lan up", tid % 1000))?;
        plugged.send(()).ok().context("the machine ended before it was plugged in")?;
        let (node, fingerprint, directory) = begins.await.context("the machine ended before its agent answered")?;
        let fingerprint = format!("sha256:{fingerprint}");
        Ok(Unit { name: name.to_owned(), address, node, fingerprint, work, thread: Some(thread), _directory: directory })
    }
}

fn said(args: &[&str], output: &Output) -> Result<()> {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("$ machinectl {}\n{text}", args.join(" "));
    ensure!(output.status.success(), "machinectl {}: {}: {text}", args.join(" "), output.status);
    Ok(())
}

type Job = Box<dyn FnOnce(Node) -> Pin<Box<dyn Future<Output = ()>>> + Send>;
type Begun = (Node, String, Arc<tempfile::TempDir>);

/// A machine; it ends with the value.
pub struct Unit {
    pub name: String,
    pub address: IpAddr,
    pub node: Node,
    pub fingerprint: String,
    work: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
    _directory: Arc<tempfile::TempDir>,
}

impl Unit {
    /// Does something on the machine, in its network, and does not wait for it.
    pub async fn begin<F: Future<Output = ()> + 'static>(&self, job: impl FnOnce(Node) -> F + Send + 'static) -> Result<()> {
        let job: Job = Box::new(move |node| Box::pin(job(node)));
        self.work.send(job).await.ok().context("the machine has ended")
    }

    pub fn machine(&self) -> Result<Machine> {
        Machine::observe(&self.node).map_err(|missing| anyhow::anyhow!("{missing:?}"))
    }

    pub fn is_control_plane(&self) -> bool {
        self.node.config().is_some_and(|applied| applied.config.machine.role == Role::ControlPlane)
    }

    /// What the controllers wait for and fail at.
    pub fn controllers(&self) -> Vec<String> {
        let told =
            |(name, status): (String, ControllerStatus)| format!("{name}: {:?} {:?} {}", status.state, status.waits_for, status.error);
        self.node.store.all::<ControllerStatus>().into_iter().map(told).collect()
    }

    pub fn logs(&self) -> String {
        let (controllers, services) = (self.controllers().join("\n"), real_init::logs(&self.node.root));
        let authorities: Vec<_> = self.node.store.list("authorities").into_iter().map(|object| object.value.to_string()).collect();
        format!("\n==== {}\n{controllers}\n{}\n{services}", self.name, authorities.join("\n"))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.work = mpsc::channel(1).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    name: &str,
    address: IpAddr,
    told: oneshot::Sender<i32>,
    plug: oneshot::Receiver<()>,
    begun: oneshot::Sender<Begun>,
    mut jobs: mpsc::Receiver<Job>,
) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::new(directory.path());
    told.send(nix::unistd::gettid().as_raw()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        plug.await.unwrap();
        for line in ["link set lo up".to_owned(), format!("address add {address}/24 dev eth0"), "link set eth0 up".to_owned()] {
            ip(&line).unwrap();
        }
        RealInit::start(&root, real_init::components());
        let Served { node, fingerprint, .. } = serve_at(&root, SocketAddr::from(([0, 0, 0, 0], api::PORT))).await;
        // What the network's and the clock's controllers would put on the board.
        node.store.put(Hostname::NAME, &Hostname { hostname: name.to_owned(), source: "config".to_owned() });
        node.store.put(NodeIps::NAME, &NodeIps { addresses: vec![address] });
        node.store.put(TimeStatus::NAME, &TimeStatus { settled: true, ..TimeStatus::default() });
        start(&node);
        begun.send((node.clone(), fingerprint, directory)).ok().unwrap();
        while let Some(job) = jobs.recv().await {
            tokio::task::spawn_local(job(node.clone()));
        }
    });
}

/// What every machine runs of those that have to do with authorities.
fn start(node: &Node) {
    tokio::spawn(controller::run(Pki::default(), node.clone()));
    tokio::spawn(controller::run(Join::default(), node.clone()));
    tokio::spawn(controller::run(Authorities::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<Etcd>::default(), node.clone()));
    tokio::spawn(controller::run(EtcdMembers::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeApiserver>>::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeControllerManager>>::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeScheduler>>::default(), node.clone()));
    tokio::spawn(controller::run(Balancer::default(), node.clone()));
    tokio::spawn(balancer::membership::follow(node.clone()));
    tokio::spawn(controller::run(Manifests::default(), node.clone()));
    tokio::spawn(controller::run(MachineRecords::default(), node.clone()));
    tokio::spawn(approver::follow(node.clone()));
    tokio::spawn(controller::run(Approver, node.clone()));
}
