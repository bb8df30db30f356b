//! With a real API server and five hundred Nodes: how soon a new one is reached, by the agent and by flannel's daemon.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::super::Overlay;
use super::super::flanneld;
use super::super::many::PEERS;
use crate::controllers::cluster_node;
use crate::controllers::namespace::Namespace;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::figures::{figure, micros, quantile};
use crate::resources::overlay::{OverlayPeer, PeerState};

const OWN: &str = "cp-1";
const FLANNEL: &str = "with-flannel";
const FLANNEL_ADDRESS: &str = "192.0.2.31";
/// None of the numbered Nodes has these.
const FLANNEL_PODS: &str = "10.244.1.0/24";
/// New Nodes whose way is timed.
const JOINS: u16 = 100;

fn name(number: u16) -> String {
    format!("node-{number}")
}

fn pods(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("10.{}.{low}.0/24", 244 + high)
}

/// The routes that a machine gets, and when.
struct Routes {
    lines: UnboundedReceiver<(Instant, String)>,
    monitor: Child,
}

impl Routes {
    /// From now on.
    async fn of(machine: &Namespace) -> anyhow::Result<Routes> {
        let mut monitor = machine.command("ip").args(["monitor", "route"]).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(monitor.stdout.take().context("it has one")?);
        let (told, lines) = unbounded_channel();
        // Ends with the program.
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| told.send((Instant::now(), line)).is_ok()));
        let mut routes = Routes { lines, monitor };
        for _ in 0..100 {
            machine.run("ip route add blackhole 198.51.100.0/24");
            machine.run("ip route delete blackhole 198.51.100.0/24");
            if timeout(Duration::from_millis(100), routes.lines.recv()).await.is_ok_and(|line| line.is_some()) {
                return Ok(routes);
            }
        }
        bail!("ip monitor tells nothing")
    }

    async fn to(&mut self, pods: &str) -> anyhow::Result<Instant> {
        let told = async {
            loop {
                let (at, line) = self.lines.recv().await.context("nobody tells of routes any more")?;
                if line.starts_with(pods) {
                    return Ok(at);
                }
            }
        };
        timeout(Duration::from_secs(60), told).await.with_context(|| format!("waiting for a route to {pods}"))?
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

/// With what its own overlay has told, and its pods.
fn node(number: u16) -> Value {
    let ([high, low], pods) = (number.to_be_bytes(), pods(number));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name(number), "annotations": {
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": format!(r#"{{"VNI":1,"VtepMAC":"02:07:07:07:{high:02x}:{low:02x}"}}"#),
            "flannel.alpha.coreos.com/public-ip": format!("203.{high}.{low}.7"),
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        } },
        "spec": { "podCIDR": pods, "podCIDRs": [pods] },
    })
}

#[test]
#[ignore = "a benchmark: make bench T=overlay"]
fn figures() {
    let wider = |config: &mut machine::config::Config| config.cluster.network.pod_cidrs = vec!["10.244.0.0/14".parse().unwrap()];
    RealCluster::run(wider, async |cluster| {
        let node_of_this = &cluster.node;
        let (admin, kubelet) = (cluster.admin()?, cluster.as_who(CertificateId::KubeletClient)?);
        let other = flanneld::machine(&Namespace::of_this_thread(), FLANNEL_ADDRESS);
        let spec = json!({ "spec": { "podCIDR": FLANNEL_PODS, "podCIDRs": [FLANNEL_PODS] } });
        cluster.register(&admin, FLANNEL, FLANNEL_ADDRESS, spec).await?;
        let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
        for number in 2..=PEERS + 1 - JOINS {
            nodes.create(&PostParams::default(), &serde_json::from_value(node(number))?).await?;
        }
        let daemon = flanneld::of_a_cluster(&other, FLANNEL, "vxlan", &cluster.kubeconfig(flanneld::API_SERVER)?)?;
        until("flannel reaches all of them", || async {
            let reached = other.text(&["ip", "route", "show", "dev", "flannel.1"]).lines().count();
            ensure!(reached >= usize::from(PEERS - JOINS), "{reached}\n{}", daemon.log());
            Ok(())
        })
        .await?;
        tokio::spawn(cluster_node::follow(node_of_this.clone()));
        cluster.spawn(Overlay::new()?);
        cluster.register(&kubelet, OWN, "192.0.2.20", json!({})).await?;
        until("all of them are reached", || async {
            let peers = node_of_this.store.all::<OverlayPeer>();
            let connected = peers.values().filter(|peer| peer.state == PeerState::Connected).count();
            // And flannel's.
            ensure!(connected == usize::from(PEERS - JOINS) + 1, "{connected}: {:?}", peers.values().next());
            Ok(())
        })
        .await?;
        let (mut joins, mut flannels) = (Vec::new(), Vec::new());
        let mut routes = Routes::of(&other).await?;
        for number in PEERS + 2 - JOINS..=PEERS + 1 {
            let object = serde_json::from_value(node(number))?;
            let mut board = node_of_this.store.revision();
            let began = Instant::now();
            nodes.create(&PostParams::default(), &object).await?;
            let is_reached = || node_of_this.store.get::<OverlayPeer>(&name(number)).is_some_and(|peer| peer.state == PeerState::Connected);
            while !is_reached() {
                board.changed().await.context("the board is gone")?;
            }
            joins.push(micros(began.elapsed()));
            flannels.push(micros(routes.to(&pods(number)).await? - began));
        }
        for (name, share, goal) in [("p50", 0.5, json!("none")), ("p99", 0.99, json!({ "atMost": 250_000.0 }))] {
            let (ours, flannel) = ([quantile(&joins, share)], [quantile(&flannels, share)]);
            figure(&format!("new Node reached, 500 Nodes, {name}, beside flannel"), "microseconds", &ours, Some(&flannel), goal);
        }
        Ok(())
    });
}
