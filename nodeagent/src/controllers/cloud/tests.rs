mod manager;

use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::*;
use crate::controllers::cluster_node::{self, ClusterNode};
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::cluster::NodeStatus;

/// What kubelets with an external cloud provider register with, until the cloud's controller has seen to the Node (k8s.io/cloud-provider/api).
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

#[test]
fn a_machine_of_a_cloud_is_asked_for_once() {
    let instance = CloudInstance { platform: "aws".to_owned(), provider_id: "aws:///a/i-1".to_owned() };
    let seen = |platform: Option<&str>, told: Option<&CloudInstance>| Seen { platform: platform.map(str::to_owned), told: told.cloned() };
    assert_eq!(plan(&seen(Some("aws"), None)), Plan::Act(vec![Action::Ask { platform: "aws".to_owned() }]));
    assert_eq!(plan(&seen(Some("aws"), Some(&instance))), Plan::Settled);
    assert_eq!(plan(&seen(None, Some(&instance))), Plan::Act(vec![Action::Forget]));
    assert_eq!(plan(&seen(None, None)), Plan::Settled);
}

#[test]
fn it_is_needed_where_a_cloud_has_a_controller_and_the_user_says_nothing() {
    let external = changed(&machine("worker"), |config| config.cluster.cloud_provider = CloudProvider::External);
    let said = changed(&external, |config| {
        config.machine.kubelet.config.insert("providerID".to_owned(), json!("aws:///b/i-2"));
    });
    for (machine, platform, needed) in [
        (&external, "aws", true),
        (&external, "metal", false),
        (&external, "", false),
        (&said, "aws", false),
        (&self::machine("worker"), "aws", false),
    ] {
        assert_eq!(is_needed(&machine.config, platform), needed, "{platform}");
    }
}

#[test]
fn what_the_clouds_controller_does_to_a_node_stays() {
    RealCluster::run(
        |config| config.cluster.cloud_provider = CloudProvider::External,
        async |cluster| {
            let node = &cluster.node;
            tokio::spawn(cluster_node::follow(node.clone()));
            cluster.spawn(ClusterNode::default());
            // As a kubelet with --cloud-provider=external registers.
            let taints = json!([
                { "key": UNINITIALIZED, "value": "true", "effect": "NoSchedule" },
                { "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" },
            ]);
            let object = json!({ "spec": { "providerID": "aws:///eu-central-1a/i-1", "taints": taints } });
            cluster.register(&cluster.as_who(CertificateId::KubeletClient)?, "cp-1", "192.0.2.20", object).await?;
            let nodes: Api<KubernetesNode> = Api::all(cluster.admin()?.kube().clone());
            let labelled = async |why: &str| {
                until(why, || async {
                    let labels = nodes.get("cp-1").await?.metadata.labels.context("none")?;
                    ensure!(labels.contains_key("node-role.kubernetes.io/control-plane"), "{labels:?}");
                    Ok(())
                })
                .await
            };
            labelled("the agent has labelled its Node").await?;
            let tainted = nodes.get("cp-1").await?.spec.and_then(|spec| spec.taints).unwrap_or_default();
            ensure!(
                tainted.iter().any(|taint| taint.key == UNINITIALIZED),
                "the agent leaves the taint to the cloud's controller: {tainted:?}"
            );

            // Zone, type and addresses, and the taint goes last.
            let cloud = json!({ "cp-1": {
                "providerID": "aws:///eu-central-1a/i-1",
                "type": "m7i.large", "zone": "eu-central-1a", "region": "eu-central-1",
                "addresses": ["192.0.2.20", "198.51.100.20"],
            } });
            let manager = manager::start(&cluster.kubeconfig("https://127.0.0.1:6443")?, &cloud)?;
            until("the cloud's controller has initialized it", || async {
                let spec = nodes.get("cp-1").await?.spec.context("it has one")?;
                let taints = spec.taints.unwrap_or_default();
                ensure!(taints.iter().all(|taint| taint.key != UNINITIALIZED), "{taints:?}; {}", manager.log());
                Ok(())
            })
            .await?;
            until("the agent has seen it", || async {
                let own = node.store.get::<NodeStatus>("cp-1").context("not told")?;
                ensure!(own.labels.contains_key("topology.kubernetes.io/zone") && own.taints.len() == 1, "{own:?}");
                Ok(())
            })
            .await?;
            // The agent's next change to the Node leaves all of that.
            let gone = json!({ "metadata": { "labels": { "node-role.kubernetes.io/control-plane": null } } });
            nodes.patch("cp-1", &PatchParams::default(), &Patch::Merge(gone)).await?;
            labelled("the agent has labelled it again").await?;
            let kept = nodes.get("cp-1").await?;
            let spec = kept.spec.context("it has one")?;
            ensure!(spec.provider_id.as_deref() == Some("aws:///eu-central-1a/i-1"));
            ensure!(spec.taints.iter().flatten().all(|taint| taint.key != UNINITIALIZED), "{:?}", spec.taints);
            ensure!(kept.metadata.labels.is_some_and(|labels| labels["topology.kubernetes.io/zone"] == "eu-central-1a"));
            let addresses = kept.status.and_then(|status| status.addresses).unwrap_or_default();
            ensure!(addresses.iter().any(|address| address.address == "198.51.100.20"), "{addresses:?}");
            Ok(())
        },
    );
}
