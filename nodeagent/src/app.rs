//! The composition root: everything that the agent does is named here, once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use machine::Root;
use machine::disk::Volume;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{SignalKind, signal};

use crate::admission::Admission;
use crate::announce::announce;
use crate::audit::{self, Audit};
use crate::authority_keys;
use crate::boots::Boots;
use crate::bootstrap::Bootstrap;
use crate::clock::Clock;
use crate::config::Configs;
use crate::controller;
use crate::controllers;
use crate::controllers::approver::{self, Approver};
use crate::controllers::authorities::Authorities;
use crate::controllers::balancer::{self, Balancer};
use crate::controllers::cloud::Cloud;
use crate::controllers::cluster_node::{self, ClusterNode};
use crate::controllers::cni::Cni;
use crate::controllers::containerd::Containerd;
use crate::controllers::control_plane::{ControlPlane, KubeApiserver, KubeControllerManager, KubeScheduler};
use crate::controllers::dns::Dns;
use crate::controllers::etcd::Etcd;
use crate::controllers::etcd_hold::EtcdHold;
use crate::controllers::etcd_members::EtcdMembers;
use crate::controllers::etcd_repair::EtcdRepairs;
use crate::controllers::extra_files::ExtraFiles;
use crate::controllers::firewall::Firewall;
use crate::controllers::images::Images;
use crate::controllers::join::Join;
use crate::controllers::kernel::Kernel;
use crate::controllers::kube_proxy::KubeProxy;
use crate::controllers::kubelet::Kubelet;
use crate::controllers::load_balancer::announcer::Announcer;
use crate::controllers::load_balancer::{self, LoadBalancer};
use crate::controllers::machine_record::MachineRecords;
use crate::controllers::manifests::Manifests;
use crate::controllers::masquerade::Masquerade;
use crate::controllers::metadata_guard::MetadataGuard;
use crate::controllers::metrics_api::MetricsApis;
use crate::controllers::network::{self, Network};
use crate::controllers::node_conditions::NodeConditions;
use crate::controllers::overlay::{self, Overlay};
use crate::controllers::pki::Pki;
use crate::controllers::policy::{self, Policies};
use crate::controllers::pressure_taints::PressureTaints;
use crate::controllers::rebalancer::{self, Rebalancer};
use crate::controllers::registries::Registries;
use crate::controllers::service::Supervised;
use crate::controllers::static_pods::StaticPods;
use crate::controllers::time;
use crate::controllers::virtual_ip::VirtualIp;
use crate::controllers::volumes::Volumes;
use crate::controllers::watchdog::Watchdog;
use crate::etcd_snapshots;
use crate::failpoint::Failpoints;
use crate::gate::Gate;
use crate::health;
use crate::identity::{self, Identity};
use crate::init_client::InitClient;
use crate::init_events;
use crate::install;
use crate::metrics_api;
use crate::node::Node;
use crate::power::Power;
use crate::pressure;
use crate::resolver;
use crate::reviews::Reviews;
use crate::scores::{self, Listeners};
use crate::screen;
use crate::security;
use crate::server::{self, Api};
use crate::sources::{self, Metadata};
use crate::stage::StageEvent;
use crate::state_record;
use crate::upgrade::Upgrades;
use crate::usage::Usage;

/// What the agent is told from outside.
#[derive(Debug)]
pub struct Settings {
    pub root: Root,
    /// Where init hears that the agent is ready (sd_notify).
    pub notify_socket: Option<PathBuf>,
}

/// Runs the agent until its server ends or init stops it.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let root = settings.root;
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let failpoints = failpoints(&node);
    let configs = Arc::new(Configs::new(node.clone(), Clock::new(&root)).with_failpoints(failpoints.clone()));
    let bootstrap = Arc::new(Bootstrap::new(node.clone()));
    let admission = Admission::new(node.clone());
    let mut identity = Identity::new(&root, SystemTime::now())?;

    open_state(&node).await;
    let power = Power::new(node.clone());
    let upgrades = Arc::new(Upgrades::new(node.clone(), power.clone(), failpoints));
    if identity::state_problem(&node).is_none() {
        state_record::publish(&node);
        upgrades.settle().await;
    }
    let boots = Arc::new(Boots::new(node.clone()));
    boots.begin().await;
    load(&node, &configs, &bootstrap).await;
    identity.settle(&node).await?;

    let listener = server::bind(api::PORT).await.with_context(|| format!("listening on port {}", api::PORT))?;
    let credentials = identity.credentials();
    let fingerprint = credentials.borrow().fingerprint();
    notify(settings.notify_socket).await;

    let audit = Audit::start(node.clone());
    let usage = Usage::start(&node).context("starting to read what the machine uses")?;
    security::publish(&node);
    tokio::spawn(audit::deliver(node.clone(), audit.clone()));
    tokio::spawn(init_events::follow(node.clone()));
    tokio::spawn(health::watch(node.clone()));
    tokio::spawn(announce(node.clone(), fingerprint));
    tokio::spawn(configs.clone().end_trials());
    tokio::spawn(install::disks::watch(node.clone()));
    tokio::spawn(sources::watch(node.clone(), configs.clone()));
    tokio::spawn(controller::run(identity, node.clone()));
    start_controllers(&node)?;
    tokio::spawn(pressure::follow(node.clone(), usage.clone()));
    tokio::spawn(screen::follow(node.clone(), usage.clone()));
    let listeners = Listeners::default();
    tokio::spawn(scores::follow(node.clone(), usage.clone(), listeners.clone()));
    tokio::spawn(scores::bindings(node.clone(), listeners.scores.clone()));
    tokio::spawn(scores::publish(node.clone(), listeners.scores.clone()));
    tokio::spawn(scores::serve(node.clone(), listeners.scores.clone()));
    let reviews = Reviews::new(node.clone());
    tokio::spawn(metrics_api::run(node.clone(), listeners, reviews.clone()));
    tokio::spawn(boots.clone().follow());
    tokio::spawn(Gate::new(node.clone(), upgrades.clone(), power.clone(), Clock::new(&root)).run());

    let leaving = node.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        served = server::serve(listener, credentials, Api { node, configs, bootstrap, admission, power, upgrades, audit, usage, reviews }) => served,
        _ = terminated.recv() => {
            controllers::metrics_api::leave(&leaving).await;
            boots.end().await;
            Ok(())
        }
    }
}

/// None, but in a build for tests that cut the power.
fn failpoints(node: &Node) -> Failpoints {
    #[cfg(feature = "failpoints")]
    return Failpoints::from_command_line(&node.root, node.console.clone());
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = node;
        Failpoints::default()
    }
}

/// How long init may take to open STATE before the agent goes on without it: checking a large file system takes its time.
const STATE_DEADLINE: Duration = Duration::from_secs(120);

/// Asks init for all that it has, and has it open STATE. Where the machine runs from a medium there is none that would be its own.
async fn open_state(node: &Node) {
    if let Err(error) = init_events::ask(node).await {
        tracing::error!("{error:#}");
    }
    if install::is_on_medium(node) {
        return;
    }
    let opened = tokio::time::timeout(STATE_DEADLINE, node.init.open_volume(Volume::State)).await;
    let opened = opened.map_err(anyhow::Error::from).and_then(|opened| opened.map(drop)).context("opening STATE");
    // A volume that cannot be opened is told of like all others.
    if let Err(error) = opened.and(init_events::ask(node).await) {
        tracing::error!("{error:#}");
    }
}

/// Puts in force what STATE holds. Without STATE the machine stays in maintenance and says why.
async fn load(node: &Node, configs: &Configs, bootstrap: &Bootstrap) {
    if install::is_on_medium(node) {
        node.console.print("booted from an installation medium: apply a machine config to install");
        return;
    }
    if let Some(problem) = identity::state_problem(node) {
        node.console.print(&format!("no machine config can be kept: {problem}"));
        return;
    }
    // Before the config is in force: what a control plane got when it joined belongs to it.
    match authority_keys::load(&node.root) {
        Ok(Some(keys)) => authority_keys::hold(node, keys),
        Ok(None) => {}
        Err(error) => node.console.print(&format!("reading STATE: {error:#}; the authorities' keys are asked for again")),
    }
    let loaded = configs.load().await.map_err(anyhow::Error::from).and_then(|_| bootstrap.load());
    if let Err(error) = loaded {
        node.console.print(&format!("reading STATE: {error:#}"));
        node.happened(StageEvent::ConfigUnusable);
    }
}

/// Every controller, in the order in which a boot needs them.
fn start_controllers(node: &Node) -> anyhow::Result<()> {
    tokio::spawn(controller::run(Volumes, node.clone()));
    tokio::spawn(controller::run(Watchdog::default(), node.clone()));
    tokio::spawn(publish(node.clone()));
    tokio::spawn(network::watch_duplicates(node.clone()));
    tokio::spawn(network::watch_routers(node.clone()));
    tokio::spawn(controller::run(Network::new()?, node.clone()));
    tokio::spawn(resolver::run(node.clone()));
    tokio::spawn(time::run(node.clone()));
    tokio::spawn(controller::run(Kernel::default(), node.clone()));
    tokio::spawn(controller::run(Firewall::default(), node.clone()));
    tokio::spawn(controller::run(MetadataGuard::default(), node.clone()));
    tokio::spawn(controller::run(ExtraFiles, node.clone()));
    tokio::spawn(controller::run(Pki::default(), node.clone()));
    tokio::spawn(controller::run(Join::default(), node.clone()));
    tokio::spawn(controller::run(Authorities::default(), node.clone()));

    tokio::spawn(controller::run(Supervised::<Etcd>::default(), node.clone()));
    tokio::spawn(controller::run(EtcdMembers::default(), node.clone()));
    tokio::spawn(controller::run(EtcdRepairs::default(), node.clone()));
    tokio::spawn(etcd_snapshots::run(node.clone()));
    tokio::spawn(controller::run(EtcdHold::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeApiserver>>::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeControllerManager>>::default(), node.clone()));
    tokio::spawn(controller::run(Supervised::<ControlPlane<KubeScheduler>>::default(), node.clone()));
    tokio::spawn(controller::run(Balancer::default(), node.clone()));
    tokio::spawn(balancer::membership::follow(node.clone()));
    tokio::spawn(controller::run(VirtualIp::new()?, node.clone()));
    tokio::spawn(controller::run(Manifests::default(), node.clone()));
    tokio::spawn(controller::run(Dns, node.clone()));
    tokio::spawn(controller::run(MetricsApis::default(), node.clone()));
    tokio::spawn(controller::run(MachineRecords::default(), node.clone()));
    tokio::spawn(approver::follow(node.clone()));
    tokio::spawn(controller::run(Approver, node.clone()));

    tokio::spawn(controller::run(Registries, node.clone()));
    tokio::spawn(controller::run(Supervised::<Containerd>::default(), node.clone()));
    tokio::spawn(controller::run(Images::default(), node.clone()));
    tokio::spawn(controller::run(StaticPods, node.clone()));
    tokio::spawn(controller::run(Cloud::new(Metadata::of_this_machine()), node.clone()));
    tokio::spawn(controller::run(Supervised::<Kubelet>::default(), node.clone()));
    tokio::spawn(controller::run(KubeProxy::default(), node.clone()));
    tokio::spawn(cluster_node::follow(node.clone()));
    tokio::spawn(controller::run(ClusterNode::default(), node.clone()));
    tokio::spawn(controller::run(NodeConditions::default(), node.clone()));
    tokio::spawn(controller::run(PressureTaints::default(), node.clone()));
    tokio::spawn(controller::run(Rebalancer::new(rebalancer::Agents), node.clone()));
    tokio::spawn(controller::run(Masquerade::default(), node.clone()));
    tokio::spawn(controller::run(Overlay::new()?, node.clone()));
    tokio::spawn(overlay::paths::follow(node.clone()));
    let view = policy::View::default();
    tokio::spawn(policy::follow(node.clone(), view.clone()));
    tokio::spawn(controller::run(Policies::new(view), node.clone()));
    let view = load_balancer::View::default();
    tokio::spawn(load_balancer::follow(node.clone(), view.clone(), load_balancer::Agents::default()));
    tokio::spawn(controller::run(LoadBalancer::new(view.clone()), node.clone()));
    tokio::spawn(controller::run(Announcer::new(view)?, node.clone()));
    tokio::spawn(controller::run(Cni, node.clone()));
    Ok(())
}

/// The kernel's links, addresses and routes on the board; begins anew when the kernel's messages were too many to keep up with.
async fn publish(node: Node) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        if let Err(error) = network::publish(node.clone()).await {
            tracing::warn!("{error:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells init that the machine API answers.
async fn notify(socket: Option<PathBuf>) {
    let Some(path) = socket else { return };
    let told = async { UnixDatagram::unbound()?.send_to(b"READY=1", &path).await };
    if let Err(error) = told.await {
        tracing::warn!("telling init at {} that the agent is ready: {error}", path.display());
    }
}
