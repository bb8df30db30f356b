//! With a real API server and five hundred Nodes: how soon a new one is reached, and how much a change of one brings over the wire.

use std::time::Instant;

use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::client::Body;
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

/// What a kubelet reports of a machine in use: fifty images is the most that it lists.
fn status() -> Value {
    let image = |number: u32| {
        let name = format!("registry.example/team/application-{number}");
        json!({ "names": [format!("{name}@sha256:{}", "5".repeat(64)), format!("{name}:v1.{number}.0")], "sizeBytes": 50_000_000 + number })
    };
    let condition = |kind: &str| {
        json!({ "type": kind, "status": if kind == "Ready" { "True" } else { "False" }, "reason": format!("KubeletHas{kind}"),
            "message": format!("kubelet has no {kind}"), "lastHeartbeatTime": "2026-11-25T09:00:00Z", "lastTransitionTime": "2026-11-25T09:00:00Z" })
    };
    let images: Vec<Value> = (0..50).map(image).collect();
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(condition);
    json!({ "status": {
        "conditions": conditions,
        "capacity": { "cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi" },
        "allocatable": { "cpu": "7900m", "memory": "31Gi", "pods": "110", "ephemeral-storage": "90Gi" },
        "images": images,
    } })
}

/// Bytes of the object in an answer of this kind.
async fn size(client: &kube::Client, accept: &str) -> anyhow::Result<f64> {
    let request = Request::get(format!("/api/v1/nodes/{}", name(2))).header("accept", accept).body(Body::empty())?;
    let answer = client.send(request).await?;
    ensure!(answer.status().is_success(), "{accept}: {}", answer.status());
    Ok(answer.into_body().collect().await?.to_bytes().len() as f64)
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

        nodes.patch_status(&name(2), &PatchParams::default(), &Patch::Merge(&status())).await?;
        let client = admin.kube();
        let whole = size(client, "application/json").await?;
        for (words, accept) in [
            ("its metadata alone", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            ("its metadata alone, protobuf", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            ("the Node, protobuf", "application/vnd.kubernetes.protobuf"),
        ] {
            let narrowed = size(client, accept).await?;
            figure(
                &format!("bytes of a change: {words}, beside the Node"),
                "count",
                &[narrowed],
                Some(&[whole]),
                json!({ "ratioAtMost": 0.02 }),
            );
        }
        Ok(())
    });
}
