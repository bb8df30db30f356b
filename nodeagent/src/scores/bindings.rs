//! Hears where the scheduler bound pods: it asks for scores, and does not say what it made of them. Until that is heard, a pod is expected in parts on
//! all the nodes that compared best; without it bursts of pods pile up (docs/simulator.md).

use std::time::Duration;

use anyhow::Context;
use controlplane::client::Client;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use tokio::time::Instant;

use super::Scores;
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::watch::{self, Change, Watch};
use crate::node::Node;
use crate::resources::cluster::ApiServer;

/// The super-user's certificate is short-lived: each watch ends before it.
const WATCH_SECONDS: u32 = 280;

/// Pods enter this selection when they are bound.
const BOUND: &str = "spec.nodeName!=";

/// For as long as the agent lives; on workers it waits.
pub async fn bindings(node: Node, scores: Scores) {
    watch::follow(Bindings(scores), node).await;
}

#[derive(Debug)]
struct Bindings(Scores);

impl Watch for Bindings {
    const WHAT: &'static str = "where pods are bound";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        machine.is_control_plane() && ApiServer::local_ready(&node.store)
    }

    /// From now on: pods that were bound before show in their nodes' own figures, or soon will.
    async fn watch(&mut self, _: &Node, machine: &Machine) -> anyhow::Result<()> {
        let client: Client = api::super_user(&machine.config)?;
        let pods: Api<Pod> = Api::all(client.kube().clone());
        let listed = pods.list(&ListParams::default().fields(BOUND).limit(1)).await.context("asking for the newest version of pods")?;
        let from = listed.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(BOUND).timeout(WATCH_SECONDS);
        let mut changes = watch::changes(&pods, params, &from).await?;
        while let Some(change) = changes.try_next().await? {
            let Change::Added(pod) = change else { continue };
            if let (Some(uid), Some(node)) = (&pod.metadata.uid, pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())) {
                self.0.bound(uid, node, Instant::now());
            }
        }
        Ok(())
    }
}
