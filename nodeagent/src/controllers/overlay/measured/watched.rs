//! What one heartbeat of a Node brings over the wire to each who watches Nodes: with a real API server, and a Node as the kubelet, the controller manager
//! and the agent of a machine in use write it.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::super::flannel;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::controllers::watch;
use crate::figures::{figure, quantile};
use crate::resources::overlay::{Announcement, Tunnel, TunnelEnd, VxlanEnd};

const NAME: &str = "node-2";
const KUBELET: &str = "kubelet";
/// Heartbeats in each form.
const BEATS: usize = 5;
/// Conditions that the kubelet tells of with each heartbeat.
const CONDITIONS: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
/// The most that a kubelet lists (nodeStatusMaxImages).
const IMAGES: u32 = 50;

const WHOLE: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn condition(kind: &str) -> Value {
    let status = if kind == "Ready" { "True" } else { "False" };
    json!({ "type": kind, "status": status, "reason": format!("KubeletHas{kind}"), "message": format!("kubelet has no {kind}"),
        "lastHeartbeatTime": "2026-11-25T09:00:00Z", "lastTransitionTime": "2026-11-25T09:00:00Z" })
}

/// As a kubelet registers its machine.
fn registered() -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
        "name": NAME,
        "labels": {
            "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": NAME, "node.kubernetes.io/instance-type": "m5.large",
            "topology.kubernetes.io/region": "eu-1", "topology.kubernetes.io/zone": "eu-1a",
        },
        "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
    } })
}

/// As it reports of one in use.
fn status() -> Value {
    let image = |number: u32| {
        let name = format!("registry.example/team/application-{number}");
        let digest = hex::encode(Sha256::digest(number.to_be_bytes()));
        json!({ "names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.{number}.0")], "sizeBytes": 50_000_000 + number })
    };
    let amounts = |cpu: &str| json!({ "cpu": cpu, "memory": "32871232Ki", "pods": "110", "ephemeral-storage": "102400Mi", "hugepages-1Gi": "0", "hugepages-2Mi": "0" });
    let id = |of: &str| hex::encode(&Sha256::digest(of)[..16]);
    json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "192.0.2.21" }, { "type": "Hostname", "address": NAME }],
        "conditions": CONDITIONS.map(condition),
        "capacity": amounts("8"),
        "allocatable": amounts("7900m"),
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
        "nodeInfo": {
            "kubeletVersion": "v1.37.1", "architecture": "amd64", "bootID": id("boot"), "containerRuntimeVersion": "containerd://2.2.0",
            "kernelVersion": "6.18.0", "kubeProxyVersion": "", "machineID": id("machine"), "operatingSystem": "linux", "osImage": "Corten",
            "systemUUID": id("system"),
        },
        "images": (0..IMAGES).map(image).collect::<Vec<Value>>(),
    } })
}

fn by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

/// The Node, once all who write to one have done so.
async fn written(cluster: &RealCluster, nodes: &Api<KubernetesNode>) -> anyhow::Result<KubernetesNode> {
    cluster.create::<KubernetesNode>(&cluster.admin()?, registered()).await?;
    nodes.patch_status(NAME, &by(KUBELET), &Patch::Strategic(status())).await?;
    until("the controller manager has given it a pod network", || async {
        let spec = nodes.get(NAME).await?.spec.unwrap_or_default();
        ensure!(spec.pod_cidrs.is_some(), "{spec:?}");
        Ok(())
    })
    .await?;
    let tunnel = Tunnel::Vxlan(VxlanEnd { hardware_address: "02:07:07:07:00:01".parse()?, vni: flannel::VNI });
    let end = TunnelEnd { address: "192.0.2.21".parse()?, tunnel: Some(tunnel) };
    let told = Announcement { backend: flannel::VXLAN.to_owned(), ends: vec![end] };
    let annotations = json!({ "metadata": { "annotations": flannel::write(&told) } });
    nodes.patch(NAME, &by("nodeagent"), &Patch::Merge(annotations)).await?;
    let pressure = ["CPU", "Memory", "IO"].map(|kind| condition(&format!("corten.dev/{kind}Pressure")));
    let pressure = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NAME }, "status": { "conditions": pressure } });
    Ok(nodes.patch_status(NAME, &PatchParams::apply("corten-pressure").force(), &Patch::Apply(pressure)).await?)
}

/// What a kubelet says every five minutes while nothing changes.
async fn beat(nodes: &Api<KubernetesNode>) -> anyhow::Result<()> {
    let now = crate::clock::date(std::time::SystemTime::now());
    let conditions = CONDITIONS.map(|kind| json!({ "type": kind, "lastHeartbeatTime": now }));
    nodes.patch_status(NAME, &by(KUBELET), &Patch::Strategic(json!({ "status": { "conditions": conditions } }))).await?;
    Ok(())
}

/// Bytes that a heartbeat brings to one who watches in this form, in the middle.
async fn watched(client: &kube::Client, nodes: &Api<KubernetesNode>, accept: &str, encoding: &str) -> anyhow::Result<f64> {
    let uri = watch::uri(nodes.resource_url(), &format!("metadata.name={NAME}"));
    let request = Request::get(uri).header("accept", accept).header("accept-encoding", encoding).body(Body::empty())?;
    let answer = client.send(request).await?;
    ensure!(answer.status().is_success(), "{accept}: {}", answer.status());
    let is_packed = answer.headers().contains_key("content-encoding");
    ensure!(is_packed == (encoding == "gzip"), "{accept} {encoding}: {:?}", answer.headers());
    let (mut lines, mut body, mut is_listed, mut events) = (watch::Lines::new(is_packed), answer.into_body(), false, Vec::new());
    let mut bytes = 0;
    while events.len() < BEATS {
        if is_listed {
            // The clock's seconds may be the same: then nothing changes, and nothing is told.
            beat(nodes).await?;
        }
        let Ok(frame) = timeout(Duration::from_millis(1100), body.frame()).await else { continue };
        let piece = frame.context("the watch has ended")??.into_data().unwrap_or_default();
        bytes += piece.len();
        for line in lines.take(&piece)? {
            let is_change = line.starts_with(br#"{"type":"MODIFIED""#);
            is_listed |= String::from_utf8_lossy(&line).contains("initial-events-end");
            if is_change {
                events.push(bytes as f64);
            }
            bytes = 0;
        }
    }
    Ok(quantile(&events, 0.5))
}

#[test]
#[ignore = "a benchmark: make bench T=overlay"]
fn figures() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let admin = cluster.admin()?;
            let client = admin.kube();
            let nodes: Api<KubernetesNode> = Api::all(client.clone());
            let node = written(cluster, &nodes).await?;
            let whole = watched(client, &nodes, WHOLE, "identity").await?;
            let beside = |words: &str, bytes: f64, goal: Value| {
                figure(&format!("bytes of a heartbeat: {words}, beside the Node as it is"), "count", &[bytes], Some(&[whole]), goal);
            };
            let aim = || json!({ "ratioAtMost": 0.02 });
            beside("the Node packed, as agents watch it", watched(client, &nodes, WHOLE, "gzip").await?, aim());
            beside("its metadata", watched(client, &nodes, METADATA, "identity").await?, aim());
            beside("its metadata packed", watched(client, &nodes, METADATA, "gzip").await?, aim());
            beside("managedFields alone", serde_json::to_vec(&node.metadata.managed_fields)?.len() as f64, json!("none"));
            let none: Patch<Value> = Patch::Merge(json!({ "status": { "images": null } }));
            nodes.patch_status(NAME, &by(KUBELET), &none).await?;
            beside("a Node without images", watched(client, &nodes, WHOLE, "identity").await?, json!("none"));
            beside("a Node without images, packed", watched(client, &nodes, WHOLE, "gzip").await?, json!("none"));
            Ok(())
        },
    );
}
