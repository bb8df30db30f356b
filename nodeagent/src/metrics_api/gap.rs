//! For how long requests fail when a control plane's agent dies without a word, and when its machine does. A real API server's aggregator asks two
//! agents: the one under test, which is to find out, and one in a network of its own, which goes. Needs root and what `make components` builds.

use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use controlplane::client::{Access, Client};
use controlplane::etcd::MemberId;
use controlplane::metrics_api::{NAMESPACE, slice, slice_name};
use controlplane::pki::{Authority, CertificateId, Issued, super_user};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use metrics::Names;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::pods::{self, Pods};
use super::sources::Sources;
use super::{serve, standing};
use crate::controllers::cluster_node;
use crate::controllers::metrics_api::{FIELD_MANAGER, MetricsApis};
use crate::controllers::namespace::Namespace;
use crate::controllers::real_cluster::{MachineUnderTest, RealCluster, until};
use crate::node::Node;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::metrics_api::{MetricsServer, ServerState};
use crate::resources::overlay::ClusterNode;
use crate::reviews::Reviews;
use crate::scores::{self, Listeners};
use crate::server::testing::{only_figures, only_metrics};
use crate::server::tls::Credentials;
use crate::server::{self, Refusals};
use crate::store::Store;
use crate::usage::Usage;

const OWN: (&str, &str) = ("cp-1", "192.0.2.20");
const OTHER: (&str, &str) = ("cp-2", "192.0.2.21");
const PATH: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// From one request to the next, and how many are made before it dies and after it is marked.
const PACE: Duration = Duration::from_millis(25);
const MANY: usize = 100;
/// Until the last of them is answered. Upstream gives a connection up after 45 s.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Clone, Copy)]
enum Death {
    Agent,
    /// Nothing comes back from it.
    Machine,
}

/// What an image tells of the machine.
type Serves = fn(Usage) -> Routes;

/// What happens, and what the agent serves to whom it happens.
const DEATHS: [(&str, Serves, Death); 3] = [
    ("its agent dies", only_metrics, Death::Agent),
    ("its machine dies", only_metrics, Death::Machine),
    ("its machine dies, of an image without heartbeats", only_figures, Death::Machine),
];

#[test]
fn requests_go_on_when_an_agent_or_its_machine_dies() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let (node, admin) = (&cluster.node, cluster.admin()?);
            for (name, address) in [OWN, OTHER] {
                cluster.register(&admin, name, address, json!({})).await?;
                node.store.put(name, &member(name == OWN.0));
            }
            let (listeners, pods) = (Listeners::default(), Pods::default());
            let sources = Sources::new(node.clone(), listeners.cluster.clone(), pods.clone());
            tokio::spawn(cluster_node::follow(node.clone()));
            tokio::spawn(scores::follow(node.clone(), usage(node)?, listeners.clone()));
            tokio::spawn(pods::follow(node.clone(), pods.clone()));
            tokio::spawn(standing::publish(sources.clone(), listeners.voices));
            tokio::spawn(serve::serve(node.clone(), sources.clone(), Reviews::new(node.clone())));
            cluster.spawn(MetricsApis::default());

            let other = Other::new(cluster, &sources)?;
            let slices: Api<EndpointSlice> = Api::namespaced(admin.kube().clone(), NAMESPACE);
            let client = asking_once(node)?;

            for (what, serves, how) in DEATHS {
                let agent = other.start(&node.store, serves)?;
                both_are_asked(&node.store, &slices).await?;
                until("it is answered", || async { Ok(client.get(PATH).await?) }).await?;
                let requests = Requests::begin(&client);
                requests.made(MANY).await;
                let dead = Instant::now();
                let left = match how {
                    // The kernel closes its connections, as those of a process that was killed.
                    Death::Agent => {
                        agent.die();
                        None
                    }
                    Death::Machine => {
                        ip("link set cp-2 nomaster")?;
                        Some(agent)
                    }
                };
                requests.told(what, dead, &slices).await?;
                if let Some(agent) = left {
                    agent.die();
                    ip("link set cp-2 master eth0")?;
                }
            }
            Ok(())
        },
    );
}

fn member(local: bool) -> EtcdMember {
    EtcdMember {
        id: MemberId(u64::from(local)),
        role: EtcdRole::Voter,
        local,
        healthy: true,
        message: String::new(),
        version: String::new(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
    }
}

/// Of a machine without a pod.
fn usage(node: &Node) -> Result<Usage> {
    std::fs::create_dir_all(node.root.cgroups())?;
    std::os::unix::fs::symlink("/proc", node.root.proc())?;
    Ok(Usage::reading(&node.root, Names::default()))
}

fn ip(line: &str) -> Result<()> {
    ensure!(Command::new("ip").args(line.split(' ')).status()?.success(), "ip {line}");
    Ok(())
}

/// A client of the super-user's, whom nobody has to be asked about, and who asks no second time.
fn asking_once(node: &Node) -> Result<Client> {
    let config = node.config().context("no config")?.config;
    let authority = &config.cluster.certificate_authorities.kubernetes;
    let issuer = Authority::from_pem(&authority.certificate, authority.key.as_ref().context("no key")?.reveal())?;
    let own = issuer.issue(&super_user(Duration::from_secs(3600)), SystemTime::now())?;
    let (certificate, key) = (&*own.certificate_pem, &own.key_pem);
    Ok(Client::asking_once(Access { server: "https://127.0.0.1:6443", authority: &authority.certificate, certificate, key })?)
}

/// Until both are heard and asked. The other's agent has no API server of its own: the test says for it that it answers.
async fn both_are_asked(store: &Store, slices: &Api<EndpointSlice>) -> Result<()> {
    until("the other is heard, and both answer", || async {
        let states = store.all::<MetricsServer>();
        let states: Vec<ServerState> = states.into_values().map(|server| server.state).collect();
        ensure!(states == [ServerState::Answering, ServerState::Heard], "{states:?}");
        Ok(())
    })
    .await?;
    let ready = slice(OTHER.0, OTHER.1.parse()?, true);
    let params = PatchParams { force: true, ..PatchParams::apply(FIELD_MANAGER) };
    slices.patch(&slice_name(OTHER.0), &params, &Patch::Apply(ready)).await?;
    for (name, _) in [OWN, OTHER] {
        until("it is asked", || async {
            ensure!(is_asked(slices, name).await?, "{name} is not");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn is_asked(slices: &Api<EndpointSlice>, name: &str) -> Result<bool> {
    let endpoints = slices.get(&slice_name(name)).await?.endpoints.unwrap_or_default();
    Ok(endpoints.iter().any(|endpoint| endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))))
}

/// A control plane in a network of its own. It shares what it knows with the one under test: it has no API server to learn it from.
struct Other {
    namespace: Namespace,
    machine: MachineUnderTest,
    node: Node,
    usage: Usage,
    sources: Sources,
}

impl Other {
    fn new(cluster: &RealCluster, known: &Sources) -> Result<Other> {
        let namespace = Namespace::new();
        ip(&format!("link add cp-2 type veth peer name eth0 netns {}", namespace.pid()))?;
        ip("link set cp-2 master eth0 up")?;
        for line in ["link set lo up", "link set eth0 up", "address add 192.0.2.21/24 dev eth0"] {
            ensure!(namespace.command("ip").args(line.split(' ')).status()?.success(), "ip {line}");
        }
        let (machine, node) = cluster.beside(OTHER.0, OTHER.1.parse::<IpAddr>()?)?;
        let sources = Sources::new(node.clone(), known.cluster.clone(), known.pods.clone());
        Ok(Other { namespace, usage: usage(&node)?, machine, node, sources })
    }

    fn start(&self, known: &Store, serves: Serves) -> Result<Agent> {
        self.node.store.replace(known.all::<ClusterNode>());
        let (kill, killed) = oneshot::channel();
        let own = self.machine.credentials.certificate(CertificateId::Machine)?.clone();
        let (node, usage, sources) = (self.node.clone(), self.usage.clone(), self.sources.clone());
        let thread = self.namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let reviews = Reviews::new(node.clone());
                tokio::select! {
                    ended = machine_api(&node, &own, serves(usage)) => panic!("{ended:?}"),
                    () = serve::serve(node.clone(), sources, reviews) => panic!("it ended"),
                    _ = killed => {}
                }
            });
        });
        Ok(Agent { kill, thread })
    }
}

struct Agent {
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Agent {
    fn die(self) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

async fn machine_api(node: &Node, own: &Issued, routes: Routes) -> Result<()> {
    let config = node.config().context("no config")?.config;
    let credentials = Credentials::mutual(own, &config.cluster.certificate_authorities.machine.certificate, false)?;
    let (_shown, credentials) = watch::channel(Arc::new(credentials));
    let (connected, connections) = mpsc::channel(8);
    let listener = server::bind(::api::PORT).await?;
    let serving = server::transport().add_routes(routes).serve_with_incoming(ReceiverStream::new(connections));
    tokio::select! {
        served = serving => Ok(served?),
        () = server::accept(listener, credentials, Arc::new(Refusals::new(node.events.clone())), connected) => Ok(()),
    }
}

/// One that was answered, or failed.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Instant,
    took: Duration,
    good: bool,
}

/// Requests at a steady pace, however long each takes.
struct Requests {
    answered: Arc<Mutex<Vec<Asked>>>,
    made: watch::Receiver<usize>,
    end: oneshot::Sender<()>,
    asking: tokio::task::JoinHandle<()>,
}

impl Requests {
    fn begin(client: &Client) -> Requests {
        let answered = Arc::new(Mutex::new(Vec::new()));
        let ((count, made), (end, ends)) = (watch::channel(0), oneshot::channel());
        let asking = tokio::spawn(ask(client.clone(), answered.clone(), count, ends));
        Requests { answered, made, end, asking }
    }

    /// Waits until so many more were made.
    async fn made(&self, more: usize) {
        let mut made = self.made.clone();
        let enough = *made.borrow() + more;
        made.wait_for(|made| *made >= enough).await.unwrap();
    }

    /// Asks on until the dead one is marked, and some more; what became of all.
    async fn told(self, what: &str, dead: Instant, slices: &Api<EndpointSlice>) -> Result<()> {
        until("it is asked no more", || async {
            ensure!(!is_asked(slices, OTHER.0).await?, "it is");
            Ok(())
        })
        .await?;
        let marked = Instant::now();
        // Nobody asks it any more: it is only the API server's own way from the slice to its aggregator that takes a moment.
        until("all requests are answered", || async {
            let answered = self.answered.lock().unwrap();
            let after: Vec<bool> = answered.iter().filter(|asked| asked.at >= marked).map(|asked| asked.good).collect();
            ensure!(after.len() >= MANY && after[after.len() - MANY..].iter().all(|good| *good), "{after:?}");
            Ok(())
        })
        .await?;
        self.end.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.asking).await.context("requests hang")??;
        let mut answered = std::mem::take(&mut *self.answered.lock().unwrap());
        answered.sort_by_key(|asked| asked.at);
        // Those that were under way when it died fail with it.
        let bad: Vec<Asked> = answered.iter().filter(|asked| !asked.good && asked.at + asked.took >= dead).copied().collect();
        let last = bad.iter().map(|asked| asked.at.saturating_duration_since(dead)).max().unwrap_or_default();
        let longest = bad.iter().map(|asked| asked.took).max().unwrap_or_default();
        let of = answered.iter().filter(|asked| asked.at >= dead && asked.at <= marked).count();
        eprintln!(
            "when {what}: seen to be marked after {:?}; {} requests of {of} fail, the last of them made after {last:?}, after {longest:?} at most",
            marked - dead,
            bad.len(),
        );
        ensure!(answered.iter().filter(|asked| asked.at < dead).any(|asked| asked.good), "none was answered before");
        Ok(())
    }
}

async fn ask(client: Client, answered: Arc<Mutex<Vec<Asked>>>, count: watch::Sender<usize>, mut end: oneshot::Receiver<()>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            _ = &mut end => break,
        }
        let (client, answered) = (client.clone(), answered.clone());
        asking.spawn(async move {
            let at = Instant::now();
            let good = client.get(PATH).await.is_ok();
            answered.lock().unwrap().push(Asked { at, took: at.elapsed(), good });
        });
        count.send_modify(|made| *made += 1);
    }
    asking.join_all().await;
}
