//! Conditions of a real Node: written as its kubelet, beside what the kubelet writes, and taken away again.

use anyhow::{Context, ensure};
use machine::config::MachinePressure;

use super::*;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::pressure::PressureState;

fn pressure(state: PressureState) -> Pressure {
    let (since, threshold) = ("2026-01-01T00:00:00Z".to_owned(), "some for 800ms within 1s".to_owned());
    Pressure { state, since, threshold, times: 0, message: "tasks waited".to_owned() }
}

#[test]
fn the_nodes_conditions_say_so_and_the_kubelets_stay() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            let kubelet = cluster.as_who(CertificateId::KubeletClient)?;
            let nodes: Api<KubernetesNode> = Api::all(cluster.admin()?.kube().clone());
            let name = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?}"))?.facts.node_name;
            let has = async |kind: &str| -> anyhow::Result<Option<(String, String)>> {
                let conditions = nodes.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
                let found = conditions.into_iter().find(|condition| condition.type_ == kind);
                Ok(found
                    .map(|condition| (condition.status, condition.last_transition_time.map(|time| time.0.to_string()).unwrap_or_default())))
            };
            tokio::spawn(cluster_node::follow(node.clone()));
            cluster.register(&kubelet, &name, "192.0.2.20", json!({})).await?;
            node.store.put("cpu", &pressure(PressureState::Raised));
            node.store.put("memory", &pressure(PressureState::Calm));
            node.store.put("io", &pressure(PressureState::Unknown));
            cluster.spawn(NodeConditions::default());
            until("the conditions are there", || async {
                let (cpu, since) = has("corten.dev/CPUPressure").await?.context("none")?;
                ensure!((cpu.as_str(), since.as_str()) == ("True", "2026-01-01T00:00:00Z"), "{cpu} since {since}");
                Ok(())
            })
            .await?;
            ensure!(has("corten.dev/MemoryPressure").await?.is_some_and(|(status, _)| status == "False"));
            ensure!(has("corten.dev/IOPressure").await?.is_some_and(|(status, _)| status == "Unknown"));
            ensure!(has("Ready").await?.is_some_and(|(status, _)| status == "True"), "the kubelet's own is gone");

            // The kubelet patches its own conditions and means no other.
            let memory = json!({ "type": "MemoryPressure", "status": "True", "reason": "", "message": "" });
            let patch = Patch::Strategic(json!({ "status": { "conditions": [memory] } }));
            let as_kubelet: Api<KubernetesNode> = Api::all(kubelet.kube().clone());
            as_kubelet.patch_status(&name, &PatchParams::default(), &patch).await?;
            ensure!(has("corten.dev/CPUPressure").await?.is_some(), "the kubelet took it away");

            node.store.put("cpu", &pressure(PressureState::Calm));
            until("it is calm", || async {
                ensure!(has("corten.dev/CPUPressure").await?.is_some_and(|(status, _)| status == "False"));
                Ok(())
            })
            .await?;
            ensure!(has("MemoryPressure").await?.is_some_and(|(status, _)| status == "True"), "the kubelet's new one is gone");

            // A node may not taint itself: that is left to control planes.
            let taint = json!({ "spec": { "taints": [{ "key": "corten.dev/pressure", "effect": "PreferNoSchedule" }] } });
            let refused = as_kubelet.patch(&name, &PatchParams::default(), &Patch::Merge(taint)).await;
            ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");

            let mut config = (*node.config().context("no config")?.config).clone();
            config.machine.pressure = MachinePressure { conditions: false, ..MachinePressure::default() };
            node.set_config(crate::node::Applied { generation: 2, config: std::sync::Arc::new(config) });
            until("they are gone", || async {
                ensure!(has("corten.dev/CPUPressure").await?.is_none() && has("corten.dev/IOPressure").await?.is_none());
                Ok(())
            })
            .await?;
            ensure!(has("Ready").await?.is_some() && has("MemoryPressure").await?.is_some());
            Ok(())
        },
    );
}
