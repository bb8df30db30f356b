//! DNS that grows with a real cluster, and is left to whoever scales it.

use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DeleteParams;

use super::*;
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::manifests::ManifestStatus;

#[test]
fn dns_grows_with_the_cluster_and_is_left_to_whoever_scales_it() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            let admin = cluster.admin()?;
            let deployments: Api<Deployment> = Api::namespaced(admin.kube().clone(), NAMESPACE);
            let has = async |replicas: i32, why: &str| {
                until(why, || async {
                    let found = deployments.get(NAME).await?.spec.replicas;
                    ensure!(found == Some(replicas), "{found:?} replicas");
                    Ok(())
                })
                .await
            };
            let decided_by = async |who: &str| {
                until("it is told who decides", || async {
                    let told = node.store.get::<DnsScale>(DnsScale::NAME).context("not told")?;
                    ensure!(told.decided_by == who, "{told:?}");
                    Ok(())
                })
                .await
            };
            tokio::spawn(cluster_node::follow(node.clone()));
            cluster.spawn(Dns);
            cluster.register(&cluster.as_who(CertificateId::KubeletClient)?, "cp-1", "192.0.2.20", json!({})).await?;
            decided_by("corten").await?;
            has(1, "one node has one").await?;
            for number in 0..33 {
                cluster.register(&admin, &format!("worker-{number}"), &format!("192.0.2.{}", 100 + number), json!({})).await?;
            }
            has(3, "34 nodes have three").await?;
            // Manifests that are applied again, as at each boot, leave the number alone.
            node.store.replace::<ManifestStatus>([]);
            until("it is applied again", || async {
                node.store.get::<ManifestStatus>("Deployment.apps/kube-system/coredns").context("not yet")
            })
            .await?;
            has(3, "it stays").await?;

            let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..PatchParams::default() };
            let by_hand = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
            deployments.patch_scale(NAME, &params, &by_hand).await.context("kubectl scale")?;
            let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
            for number in 0..33 {
                nodes.delete(&format!("worker-{number}"), &DeleteParams::default()).await?;
            }
            until("all Nodes are known to be gone", || async {
                let told = node.store.get::<DnsScale>(DnsScale::NAME).context("not told")?;
                ensure!((told.nodes, told.fitting) == (1, 1), "{told:?}");
                Ok(())
            })
            .await?;
            decided_by("kubectl").await?;
            has(5, "the user's number stays").await?;

            let annotation = Patch::Merge(json!({ "metadata": { "annotations": { "corten.dev/replicas": "auto" } } }));
            deployments.patch(NAME, &params, &annotation).await?;
            // Of the Deployment itself nobody tells: another Node does, in less than the time after which it looks again.
            cluster.register(&admin, "worker-0", "192.0.2.100", json!({})).await?;
            decided_by("corten").await?;
            has(2, "it follows the cluster again").await?;
            let budgets: Api<PodDisruptionBudget> = Api::namespaced(admin.kube().clone(), NAMESPACE);
            let budget = budgets.get(NAME).await?.spec.context("it has one")?;
            ensure!(budget.selector == Some(deployments.get(NAME).await?.spec.selector), "{budget:?}");
            Ok(())
        },
    );
}
