//! The soft taint on a real Node that tells of pressure; taints of others stay.

use anyhow::{Context, ensure};

use super::*;
use crate::controllers::real_cluster::{RealCluster, until};

#[test]
fn a_node_under_pressure_is_tainted_softly_until_it_is_over() {
    RealCluster::run(
        |config| {
            config.cluster.pressure.taint.enabled = true;
            config.cluster.pressure.taint.after = machine::config::Duration(Duration::ZERO);
        },
        async |cluster| {
            let admin = cluster.admin()?;
            let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
            let keys = async || -> anyhow::Result<Vec<String>> {
                let taints = nodes.get("worker-1").await?.spec.and_then(|spec| spec.taints).unwrap_or_default();
                Ok(taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
            };
            tokio::spawn(cluster_node::follow(cluster.node.clone()));
            cluster.spawn(PressureTaints::default());
            let foreign = json!({ "spec": { "taints": [{ "key": "example.com/a", "effect": "NoSchedule" }] } });
            cluster.register(&admin, "worker-1", "192.0.2.31", foreign).await?;
            let told = |status: &str| {
                let now = clock::date(std::time::SystemTime::now());
                let condition = json!({
                    "type": "corten.dev/CPUPressure", "status": status, "reason": "TasksStall", "message": "",
                    "lastTransitionTime": now, "lastHeartbeatTime": now,
                });
                Patch::Strategic(json!({ "status": { "conditions": [condition] } }))
            };
            nodes.patch_status("worker-1", &PatchParams::default(), &told("True")).await?;
            let ours = format!("{TAINT}:{EFFECT}");
            until("it is tainted", || async {
                let keys = keys().await?;
                ensure!(keys.contains(&ours) && keys.contains(&"example.com/a:NoSchedule".to_owned()), "{keys:?}");
                Ok(())
            })
            .await?;
            until("the machine knows of it", || async {
                let scheduled = cluster.node.store.get::<ClusterNode>("worker-1").context("not known")?;
                ensure!(!scheduled.schedulable && scheduled.pressure_taint, "{scheduled:?}");
                Ok(())
            })
            .await?;
            nodes.patch_status("worker-1", &PatchParams::default(), &told("False")).await?;
            until("the taint is gone, and no other", || async {
                let keys = keys().await?;
                ensure!(!keys.contains(&ours) && keys.contains(&"example.com/a:NoSchedule".to_owned()), "{keys:?}");
                Ok(())
            })
            .await?;
            Ok(())
        },
    );
}
