//! The controller against a real API server and the kernel: what it hears of, with whose identity, and what becomes of it.

use std::process::Command;

use anyhow::{Context, ensure};
use controlplane::client::Client;
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;
use crate::controller::{ControllerState, ControllerStatus};
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::policy::PolicyState;

const OWN: &str = "cp-1";

/// As the kernel has it; empty without one.
fn table() -> String {
    let output = Command::new("nft").args(["list", "table", "inet", render::TABLE]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn add_namespace(admin: &Client, name: &str, team: &str) -> anyhow::Result<()> {
    let namespace = json!({ "metadata": { "name": name, "labels": { "team": team } } });
    Api::<Namespace>::all(admin.kube().clone()).create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    Ok(())
}

async fn add_pod(admin: &Client, namespace: &str, name: &str, node: &str, address: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(admin.kube().clone(), namespace);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeName": node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "none", "ports": [{ "name": "http", "containerPort": 8080 }] }],
        },
    }))?;
    // Its namespace's ServiceAccount comes a moment after the namespace.
    until("the pod is there", || async { Ok(pods.create(&PostParams::default(), &pod).await?) }).await?;
    let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[test]
fn policies_of_an_api_server_are_in_the_kernel() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            let nft = node.root.path("/usr/sbin/nft");
            std::fs::create_dir_all(nft.parent().context("no folder")?)?;
            std::os::unix::fs::symlink("/usr/sbin/nft", &nft)?;
            let (admin, kubelet) = (cluster.admin()?, cluster.as_who(CertificateId::KubeletClient)?);
            tokio::spawn(cluster_node::follow(node.clone()));
            let view = View::default();
            tokio::spawn(follow(node.clone(), view.clone()));
            cluster.spawn(Policies::new(view.clone()));
            cluster.register(&kubelet, OWN, "192.0.2.20", json!({})).await?;
            cluster
                .register(&admin, "there", "192.0.2.31", json!({ "spec": { "podCIDRs": ["10.244.77.0/24"], "podCIDR": "10.244.77.0/24" } }))
                .await?;
            let networks = until("the Node has its part of the pod networks", || async {
                node.store.get::<NodeStatus>(OWN).context("no Node")?.pod_cidrs.first().copied().context("none")
            })
            .await?;
            let address = networks.hosts().nth(8).context("no address")?.to_string();
            add_namespace(&admin, "shop", "a").await?;
            add_namespace(&admin, "bank", "b").await?;
            add_pod(&admin, "shop", "web", OWN, &address).await?;
            add_pod(&admin, "bank", "client", "there", "10.244.77.3").await?;
            let state = || node.store.get::<ControllerStatus>(Policies::NAME).map(|status| status.state);
            until("it has nothing to do", || async {
                ensure!(state() == Some(ControllerState::Settled), "{:?}", state());
                Ok(())
            })
            .await?;
            ensure!(table().is_empty() && !view.picture().1.pods, "without policies nobody asks for pods, and there is no table");

            let policies: Api<NetworkPolicy> = Api::namespaced(admin.kube().clone(), "shop");
            let policy: NetworkPolicy = serde_json::from_value(json!({
                "metadata": { "name": "web" },
                "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [
                    { "from": [{ "namespaceSelector": { "matchLabels": { "team": "b" } } }], "ports": [{ "port": "http" }] }] },
            }))?;
            policies.create(&PostParams::default(), &policy).await?;
            let has = |words: &[String]| {
                let table = table();
                let lacks: Vec<&String> = words.iter().filter(|words| !table.contains(words.as_str())).collect();
                ensure!(lacks.is_empty(), "{lacks:?} not in {table}");
                Ok(())
            };
            let isolated = format!("{address} : jump in-");
            until("it is in the kernel", || async {
                has(&["10.244.77.3".to_owned(), isolated.clone(), format!("{address} . tcp . 8080")])
            })
            .await?;
            until("users are told of it", || async {
                let told = node.store.get::<NetworkPolicyStatus>("shop/web").context("not told of")?;
                ensure!(told.state == PolicyState::Enforced && told.pods == ["web"] && told.ingress && !told.egress, "{told:?}");
                Ok(())
            })
            .await?;

            // A namespace that is another team's now, and a pod that has ended.
            let namespaces: Api<Namespace> = Api::all(admin.kube().clone());
            let team = json!({ "metadata": { "labels": { "team": "c" } } });
            namespaces.patch("bank", &PatchParams::default(), &Patch::Merge(&team)).await?;
            until("its pods are not let in any more", || async {
                ensure!(!table().contains("10.244.77.3"), "{}", table());
                Ok(())
            })
            .await?;
            has(std::slice::from_ref(&isolated))?;
            let pods: Api<Pod> = Api::namespaced(admin.kube().clone(), "shop");
            let ended = json!({ "status": { "phase": "Succeeded" } });
            pods.patch_status("web", &PatchParams::default(), &Patch::Merge(&ended)).await?;
            until("a pod that has ended is nobody", || async {
                ensure!(!table().contains(&address), "{}", table());
                Ok(())
            })
            .await?;
            ensure!(!table().is_empty());

            policies.delete("web", &DeleteParams::default()).await?;
            until("no policies, no table", || async {
                ensure!(table().is_empty() && view.picture().1 == view::Listed { policies: true, ..view::Listed::default() });
                ensure!(node.store.get::<NetworkPolicyStatus>("shop/web").is_none());
                Ok(())
            })
            .await?;

            // The agent reads what it has to, and neither changes it nor reads more.
            let agent = cluster.as_who(CertificateId::Agent)?;
            let policies: Api<NetworkPolicy> = Api::namespaced(agent.kube().clone(), "shop");
            let secrets: Api<Secret> = Api::namespaced(agent.kube().clone(), "shop");
            policies.list(&ListParams::default()).await?;
            let refused = [policies.create(&PostParams::default(), &policy).await.err(), secrets.list(&ListParams::default()).await.err()];
            let is_forbidden = |error: &Option<kube::Error>| matches!(error, Some(kube::Error::Api(status)) if status.code == 403);
            ensure!(refused.iter().all(is_forbidden), "{refused:?}");
            Ok(())
        },
    );
}
