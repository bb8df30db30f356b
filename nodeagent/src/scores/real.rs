//! The real scheduler asks for scores. Needs root and what `make components` builds; it fails without them.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, Patch, PostParams};
use metrics::score::Load;
use serde_json::json;
use tokio::time::Instant;

use super::{Scores, bindings, serve};
use crate::controllers::real_cluster::{RealCluster, until};

const PRESSED: &str = "pressed";
const CALM: &str = "calm";

/// Tells of two nodes, as their agents would once a second.
async fn tell(scores: Scores) {
    let idle = Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() };
    loop {
        scores.add(PRESSED, Load { cpus_used: 4.0, cpu_some: 0.9, ..idle }, Instant::now());
        scores.add(CALM, idle, Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Makes pods that request nothing and gives the nodes that they were bound to.
async fn bound(pods: &Api<Pod>, group: &str, count: usize) -> anyhow::Result<Vec<String>> {
    for number in 0..count {
        let pod = json!({
            "metadata": { "name": format!("{group}-{number}"), "labels": { "group": group } },
            "spec": {
                "containers": [{ "name": "a", "image": "none" }],
                // Nobody keeps these Nodes alive.
                "tolerations": [{ "operator": "Exists" }],
            },
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    }
    until("all are bound", || async {
        let listed = pods.list(&ListParams::default().labels(&format!("group={group}"))).await?;
        let nodes: Vec<String> = listed.items.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
        ensure!(nodes.len() == count, "{nodes:?}");
        Ok(nodes)
    })
    .await
}

#[test]
fn new_pods_keep_off_a_node_under_pressure_and_need_nobody_to_say_so() {
    RealCluster::run_scheduling(
        |_| {},
        async |cluster| {
            let admin = cluster.admin()?;
            let nodes: Api<Node> = Api::all(admin.kube().clone());
            for (name, address) in [(PRESSED, "192.0.2.31"), (CALM, "192.0.2.32")] {
                cluster.register(&admin, name, address, json!({})).await?;
                let room = json!({ "cpu": "4", "memory": "8G", "pods": "100" });
                let status = json!({ "status": { "capacity": room, "allocatable": room } });
                nodes.patch_status(name, &Default::default(), &Patch::Merge(status)).await?;
            }
            let accounts: Api<ServiceAccount> = Api::namespaced(admin.kube().clone(), "default");
            until("pods have an account", || async { accounts.get("default").await.map(drop).context("no account") }).await?;

            let scores = Scores::default();
            let told = tokio::spawn(tell(scores.clone()));
            // With a runtime of its own: what dies with it are the connections as well.
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let (node, answers) = (cluster.node.clone(), scores.clone());
            let asked = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(node.clone(), answers.clone()) => {}
                        () = bindings(node, answers) => {}
                        _ = stopped => {}
                    }
                });
            });
            until("the scheduler is answered", || async {
                tokio::net::TcpStream::connect(("127.0.0.1", controlplane::ports::SCORES_PORT)).await?;
                Ok(())
            })
            .await?;
            let pods: Api<Pod> = Api::namespaced(admin.kube().clone(), "default");
            let with = bound(&pods, "with", 8).await?;
            ensure!(with.iter().all(|node| node == CALM), "{with:?}");
            // The scheduler said so to nobody: it was heard where each of them went.
            until("all are expected where they went", || async {
                let pending =
                    scores.all(Instant::now()).into_iter().map(|(node, told)| (node, told.why.map_or(0.0, |why| why.pending.cpus)));
                let (calm, others): (Vec<_>, Vec<_>) = pending.partition(|(node, _)| node == CALM);
                ensure!(calm.iter().any(|(_, cpus)| *cpus > 1.0) && others.iter().all(|(_, cpus)| *cpus == 0.0), "{calm:?} {others:?}");
                Ok(())
            })
            .await?;

            drop(stop);
            asked.join().unwrap();
            let without = bound(&pods, "without", 8).await?;
            ensure!(without.iter().any(|node| node == PRESSED), "who said so? {without:?}");
            told.abort();
            Ok(())
        },
    );
}
