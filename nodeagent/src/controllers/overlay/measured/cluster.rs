//! With a real API server and five hundred Nodes: how soon a new one is reached.

use std::time::Instant;

use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::super::Overlay;
use super::super::many::PEERS;
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::figures::{figure, micros, quantile};
use crate::resources::overlay::{OverlayPeer, PeerState};

const OWN: &str = "cp-1";
/// New Nodes whose way is timed.
const JOINS: u16 = 100;

fn name(number: u16) -> String {
    format!("node-{number}")
}

/// With what its own overlay has told, and its pods.
fn node(number: u16) -> Value {
    let [high, low] = number.to_be_bytes();
    let pods = format!("10.{}.{low}.0/24", 244 + high);
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
        let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
        for number in 2..=PEERS + 1 - JOINS {
            nodes.create(&PostParams::default(), &serde_json::from_value(node(number))?).await?;
        }
        tokio::spawn(cluster_node::follow(node_of_this.clone()));
        cluster.spawn(Overlay::new()?);
        cluster.register(&kubelet, OWN, "192.0.2.20", json!({})).await?;
        until("all of them are reached", || async {
            let peers = node_of_this.store.all::<OverlayPeer>();
            let connected = peers.values().filter(|peer| peer.state == PeerState::Connected).count();
            ensure!(connected == usize::from(PEERS - JOINS), "{connected}: {:?}", peers.values().next());
            Ok(())
        })
        .await?;
        let mut joins = Vec::new();
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
        }
        figure("new Node reached, 500 Nodes, p50", "microseconds", &[quantile(&joins, 0.5)], None, json!("none"));
        figure("new Node reached, 500 Nodes, p99", "microseconds", &[quantile(&joins, 0.99)], None, json!({ "atMost": 250_000.0 }));
        Ok(())
    });
}
