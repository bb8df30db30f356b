//! The overlay of a node against a real API server: what it reads of Nodes, with whose identity it writes, and what it makes of hostile ones.

use std::process::Command;

use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::*;
use crate::controllers::cluster_node;
use crate::controllers::cni::Cni;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::cluster::NodeStatus;
use crate::resources::overlay::PeerState;

const OWN: &str = "cp-1";

fn annotations(data: &str, address: &str) -> serde_json::Value {
    let pairs = [("backend-type", "vxlan"), ("backend-data", data), ("public-ip", address), ("kube-subnet-manager", "true")];
    pairs.iter().map(|(name, value)| (format!("flannel.alpha.coreos.com/{name}"), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn routes() -> String {
    String::from_utf8(Command::new("ip").args(["route", "show", "proto", "178"]).output().unwrap().stdout).unwrap()
}

#[test]
fn a_node_tells_and_hears_by_the_api_server() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            let (admin, kubelet) = (cluster.admin()?, cluster.as_who(CertificateId::KubeletClient)?);
            tokio::spawn(cluster_node::follow(node.clone()));
            cluster.spawn(Overlay::new()?);
            cluster.spawn(Cni);
            // A Node that was there before, with flannel on it.
            let flannel = json!({
                "metadata": { "annotations": annotations(r#"{"VNI":1,"VtepMAC":"12:62:b6:2a:21:cf"}"#, "192.0.2.31") },
                "spec": { "podCIDR": "10.244.31.0/24", "podCIDRs": ["10.244.31.0/24"] },
            });
            cluster.register(&admin, "flannel", "192.0.2.31", flannel).await?;
            cluster.register(&kubelet, OWN, "192.0.2.20", json!({})).await?;
            let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
            let written = until("the Node has the overlay's annotations", || async {
                let annotations = nodes.get(OWN).await?.metadata.annotations.context("none")?;
                annotations.get("flannel.alpha.coreos.com/public-ip").context("no address")?;
                Ok(annotations)
            })
            .await?;
            let announced = flannel::read(&written).unwrap().unwrap();
            ensure!(announced.ends[0].address.to_string() == "192.0.2.20", "{announced:?}");
            until("there is a way to the other", || async {
                ensure!(routes().contains("10.244.31.0/24 via 10.244.31.0 dev flannel.1 onlink"), "{}", routes());
                ensure!(node.store.get::<OverlayPeer>("flannel").context("not told")?.state == PeerState::Connected);
                Ok(())
            })
            .await?;
            let conflist = until("pods can be connected", || async { Ok(std::fs::read_to_string(node.root.cni_config())?) }).await?;
            ensure!(conflist.contains(r#""mtu": 1450"#), "{conflist}");
            let own = node.store.get::<NodeStatus>(OWN).context("its own Node is described")?;
            ensure!(own.ready && !own.pod_cidrs.is_empty(), "{own:?}");

            // Hostile ones: with this machine's address, with the other's pods, with values of any size.
            for (name, data, address, pods) in [
                ("liar", r#"{"VtepMAC":"12:62:b6:2a:21:d0"}"#.to_owned(), "192.0.2.20", "10.244.32.0/24"),
                ("thief", r#"{"VtepMAC":"12:62:b6:2a:21:d1"}"#.to_owned(), "192.0.2.33", "10.244.31.128/25"),
                ("shouter", "x".repeat(200_000), "192.0.2.34", "10.244.34.0/24"),
            ] {
                let hostile =
                    json!({ "metadata": { "annotations": annotations(&data, address) }, "spec": { "podCIDR": pods, "podCIDRs": [pods] } });
                cluster.register(&admin, name, "192.0.2.99", hostile).await?;
                let told = until("it is refused", || async {
                    let told = node.store.get::<OverlayPeer>(name).context("not told")?;
                    ensure!(told.state == PeerState::Refused, "{told:?}");
                    Ok(told)
                })
                .await?;
                ensure!(!told.message.is_empty() && told.message.len() < 300, "{told:?}");
            }
            let honest = json!({
                "metadata": { "annotations": annotations(r#"{"VtepMAC":"12:62:b6:2a:21:d5"}"#, "192.0.2.35") },
                "spec": { "podCIDR": "10.244.35.0/24", "podCIDRs": ["10.244.35.0/24"] },
            });
            cluster.register(&admin, "honest", "192.0.2.35", honest).await?;
            until("an honest one is reached all the same", || async {
                ensure!(routes().contains("10.244.35.0/24"), "{}", routes());
                Ok(())
            })
            .await?;
            ensure!(routes().lines().count() == 2, "{}", routes());

            // Annotations that others write over this machine's are put right; one of another Node it may not write.
            let wrong = json!({ "metadata": { "annotations": { "flannel.alpha.coreos.com/public-ip": "192.0.2.66" } } });
            nodes.patch(OWN, &PatchParams::default(), &Patch::Merge(&wrong)).await?;
            until("it is put right", || async {
                let annotations = nodes.get(OWN).await?.metadata.annotations.context("none")?;
                ensure!(annotations["flannel.alpha.coreos.com/public-ip"] == "192.0.2.20", "{annotations:?}");
                Ok(())
            })
            .await?;
            let as_kubelet: Api<KubernetesNode> = Api::all(kubelet.kube().clone());
            let refused = as_kubelet.patch("flannel", &PatchParams::default(), &Patch::Merge(&wrong)).await;
            ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");

            nodes.delete("flannel", &DeleteParams::default()).await?;
            until("a Node that is gone takes its way along", || async {
                ensure!(!routes().contains("10.244.31.0/24"), "{}", routes());
                ensure!(node.store.get::<OverlayPeer>("flannel").is_none());
                Ok(())
            })
            .await
        },
    );
}
