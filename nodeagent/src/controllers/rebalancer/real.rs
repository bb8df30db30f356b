//! Evictions of a real API server: nothing in a dry run, nothing against a disruption budget, and one pod when nothing is against it.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Event, Node as KubernetesNode, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use machine::config::RebalanceMode;
use serde_json::{Value, json};

use super::ask::ByPod;
use super::*;
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::node::Applied;

/// Every pod uses one CPU: no agent runs on these Nodes.
#[derive(Debug)]
struct OneCpuEach(Vec<String>);

impl Uses for OneCpuEach {
    async fn of(&self, _: &Node, _: &Machine, _: IpAddr, resource: &str) -> anyhow::Result<ByPod> {
        anyhow::ensure!(resource == "cpu", "{resource}");
        Ok(self.0.iter().map(|name| (("default".to_owned(), name.clone()), 1.0)).collect())
    }
}

fn set_mode(node: &Node, generation: u64, mode: RebalanceMode) -> anyhow::Result<()> {
    let mut config = (*node.config().context("no config")?.config).clone();
    config.cluster.pressure.rebalance.mode = mode;
    node.set_config(Applied { generation, config: std::sync::Arc::new(config) });
    Ok(())
}

/// Two pods of a ReplicaSet that run on the Node, as its kubelet would tell.
async fn running(cluster: &RealCluster) -> anyhow::Result<Vec<String>> {
    let kube = cluster.admin()?.kube().clone();
    let accounts: Api<ServiceAccount> = Api::namespaced(kube.clone(), "default");
    until("pods have an account", || async { accounts.get("default").await.map(drop).context("no account") }).await?;
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "a", "image": "none" }], "nodeName": "pressed", "terminationGracePeriodSeconds": 0 },
    });
    let set = json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": template },
    });
    let sets: Api<ReplicaSet> = Api::namespaced(kube.clone(), "default");
    sets.create(&PostParams::default(), &serde_json::from_value(set)?).await?;
    let pods: Api<Pod> = Api::namespaced(kube, "default");
    let names = until("the ReplicaSet has its pods", || async {
        let listed = pods.list(&ListParams::default()).await?.items;
        ensure!(listed.len() == 2, "{} pods", listed.len());
        Ok(listed.into_iter().filter_map(|pod| pod.metadata.name).collect::<Vec<_>>())
    })
    .await?;
    for name in &names {
        let ready = json!({ "type": "Ready", "status": "True" });
        let status = json!({ "status": { "phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [ready] } });
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    }
    Ok(names)
}

/// A Node that tells of CPU pressure since long ago.
async fn press(nodes: &Api<KubernetesNode>) -> anyhow::Result<()> {
    let condition = json!({
        "type": "corten.dev/CPUPressure", "status": "True", "reason": "TasksStall", "message": "",
        "lastTransitionTime": clock::date(std::time::SystemTime::now() - Duration::from_secs(3600)),
        "lastHeartbeatTime": clock::date(std::time::SystemTime::now()),
    });
    let patch: Patch<Value> = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    nodes.patch_status("pressed", &PatchParams::default(), &patch).await?;
    Ok(())
}

#[test]
fn a_dry_run_a_budget_and_an_eviction() {
    RealCluster::run(
        |config| {
            let rebalance = &mut config.cluster.pressure.rebalance;
            let ten = machine::config::Duration(Duration::from_secs(10));
            (rebalance.mode, rebalance.node_pause, rebalance.cluster_pause) = (RebalanceMode::DryRun, ten, ten);
        },
        async |cluster| {
            let (node, admin) = (&cluster.node, cluster.admin()?);
            let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
            let pods: Api<Pod> = Api::namespaced(admin.kube().clone(), "default");
            for (name, address) in [("pressed", "192.0.2.31"), ("calm", "192.0.2.32")] {
                cluster.register(&admin, name, address, json!({})).await?;
            }
            let uses = OneCpuEach(running(cluster).await?);
            let budgets: Api<PodDisruptionBudget> = Api::namespaced(admin.kube().clone(), "default");
            let budget = json!({
                "metadata": { "name": "web" },
                "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
            });
            budgets.create(&PostParams::default(), &serde_json::from_value(budget)?).await?;
            let allowed = async |count: i32| {
                until("the budget is reckoned", || async {
                    let found = budgets.get("web").await?.status.map(|status| status.disruptions_allowed).unwrap_or_default();
                    ensure!(found == Some(count), "{found:?}");
                    Ok(())
                })
                .await
            };
            allowed(1).await?;
            for (name, score) in [("pressed", 0), ("calm", 9)] {
                node.store.put(name, &NodeScore { score, ..NodeScore::default() });
            }
            press(&nodes).await?;
            tokio::spawn(RealCluster::keep_ready(nodes.clone(), vec!["pressed", "calm"]));
            tokio::spawn(cluster_node::follow(node.clone()));
            cluster.spawn(Rebalancer::new(uses));

            let told = |reason: &'static str| {
                move || async move {
                    let found = (1..).map_while(|number| node.events.next(number).filter(|event| event.number == number));
                    let found: Vec<_> = found.filter(|event| event.subject == "rebalancer").collect();
                    let said = found.iter().find(|event| event.reason == reason);
                    let state = || format!("{:?} {found:?}", node.store.list("rebalancing"));
                    said.map(|event| event.message.clone()).with_context(state)
                }
            };
            let message = until("the dry run tells", told("WouldEvict")).await?;
            ensure!(message.contains("pressed has been under cpu pressure") && message.contains("calm is better off"), "{message}");
            let live = async || anyhow::Ok(pods.list(&ListParams::default()).await?.items.into_iter().filter(runs).count());
            ensure!(live().await? == 2, "a dry run changed something");

            // An owner's pods are left alone for an hour after they were touched; who takes the seat anew knows nothing of that.
            set_mode(node, 2, RebalanceMode::Off)?;
            until("it gives its seat up", || async {
                ensure!(node.store.get::<Rebalancing>(Rebalancing::NAME).is_none());
                Ok(())
            })
            .await?;
            let patch = Patch::Merge(json!({ "spec": { "minAvailable": 2 } }));
            budgets.patch("web", &PatchParams::default(), &patch).await?;
            allowed(0).await?;
            set_mode(node, 3, RebalanceMode::On)?;
            let message = until("the budget holds", told("NotEvicted")).await?;
            ensure!(message.contains("disruption budget"), "{message}");
            ensure!(live().await? == 2, "a budget was passed over");

            set_mode(node, 4, RebalanceMode::Off)?;
            until("it gives its seat up again", || async {
                ensure!(node.store.get::<Rebalancing>(Rebalancing::NAME).is_none());
                Ok(())
            })
            .await?;
            budgets.delete("web", &DeleteParams::default()).await?;
            set_mode(node, 5, RebalanceMode::On)?;
            let message = until("a pod is evicted", told("Evicted")).await?;
            let left = until("one pod runs on", || async {
                let listed = pods.list(&ListParams::default()).await?.items;
                let old: Vec<_> = listed.into_iter().filter(runs).filter_map(|pod| pod.metadata.name).collect();
                ensure!(old.len() == 1, "{old:?}");
                Ok(old)
            })
            .await?;
            ensure!(!message.contains(&left[0]), "{message} {left:?}");

            let events: Api<Event> = Api::namespaced(admin.kube().clone(), "default");
            let events = events.list(&ListParams::default()).await?.items;
            let ours = events
                .iter()
                .filter(|event| event.source.as_ref().is_some_and(|source| source.component.as_deref() == Some("corten-rebalancer")));
            let reasons: Vec<_> = ours.filter_map(|event| event.reason.as_deref()).collect();
            ensure!(["WouldEvict", "NotEvicted", "Evicted"].iter().all(|reason| reasons.contains(reason)), "{reasons:?}");
            Ok(())
        },
    );
}

/// One of the two of the beginning, which were said to run; what the ReplicaSet makes in their place waits for a kubelet.
fn runs(pod: &Pod) -> bool {
    let status = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && status == Some("Running")
}
