//! Services of a real API server: what they get, keep, give back, and are told, and who announces them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Event, Node as KubernetesNode, Service as KubernetesService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::answering::{Answer, Ask};
use super::tests::pools;
use super::*;
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};

/// No agent runs on these Nodes: all answer but the one that is cut off.
#[derive(Debug, Clone, Default)]
struct AllBut(Arc<Mutex<String>>);

impl AllBut {
    fn cut_off(&self, name: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    }
}

impl Ask for AllBut {
    async fn ask(&self, _: &Node, _: &Machine, name: &str, _: IpAddr) -> anyhow::Result<Answer> {
        ensure!(*self.0.lock().unwrap_or_else(PoisonError::into_inner) != name, "no answer");
        Ok(Answer::Stays)
    }
}

struct Cluster<'a> {
    cluster: &'a RealCluster,
    services: Api<KubernetesService>,
    admin: controlplane::client::Client,
}

impl Cluster<'_> {
    async fn create(&self, name: &str, extra: Value) -> anyhow::Result<()> {
        let mut spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
        for (field, value) in extra.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
        self.services.create(&Default::default(), &object).await?;
        Ok(())
    }

    /// Its addresses and who announces them.
    async fn seen(&self, name: &str) -> anyhow::Result<(Vec<String>, Option<String>)> {
        let service = service::Service::read(&self.services.get(name).await?);
        Ok((service.addresses.iter().map(ToString::to_string).collect(), service.announcer))
    }

    async fn until_has(&self, name: &str, address: &str) -> anyhow::Result<String> {
        until(&format!("{name} has {address} and a Node that announces it"), || async {
            let (addresses, announcer) = self.seen(name).await?;
            ensure!(addresses == [address], "{addresses:?} {:?}", self.cluster.node.store.list("controllers"));
            announcer.with_context(|| format!("{:?}", self.cluster.node.store.list("controllers")))
        })
        .await
    }

    async fn until_announced_by(&self, name: &str, node: &str) -> anyhow::Result<()> {
        until(&format!("{node} announces {name}"), || async {
            let (_, announcer) = self.seen(name).await?;
            ensure!(announcer.as_deref() == Some(node), "{announcer:?}");
            Ok(())
        })
        .await
    }

    async fn until_told(&self, name: &str, words: &str) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.admin.kube().clone(), "default");
        until(&format!("{name} is told: {words}"), || async {
            let fields = format!("involvedObject.kind=Service,involvedObject.name={name}");
            let told = events.list(&ListParams::default().fields(&fields)).await?.items;
            let told: Vec<String> = told.into_iter().filter_map(|event| event.message).collect();
            ensure!(told.iter().any(|told| told.contains(words)), "{told:?} {:?}", self.cluster.node.store.list("controllers"));
            Ok(())
        })
        .await
    }
}

#[test]
fn services_get_addresses_and_a_node() {
    let change = |config: &mut machine::config::Config| config.cluster.network.load_balancer = pools(&["192.0.2.100-192.0.2.101"]);
    RealCluster::run(change, async |cluster| {
        let (node, admin) = (&cluster.node, cluster.admin()?);
        let services: Api<KubernetesService> = Api::namespaced(admin.kube().clone(), "default");
        let lb = Cluster { cluster, services: services.clone(), admin: admin.clone() };
        for (name, address) in [("worker-1", "192.0.2.31"), ("worker-2", "192.0.2.32")] {
            cluster.register(&admin, name, address, json!({})).await?;
        }
        let nodes: Api<KubernetesNode> = Api::all(admin.kube().clone());
        tokio::spawn(RealCluster::keep_ready(nodes, vec!["worker-1", "worker-2"]));
        tokio::spawn(cluster_node::follow(node.clone()));
        let (view, asks) = (View::default(), AllBut::default());
        tokio::spawn(follow(node.clone(), view.clone(), asks.clone()));
        let running = tokio::spawn(crate::controller::run(LoadBalancer::new(view.clone()), node.clone()));

        lb.create("first", json!({})).await?;
        let announcer = lb.until_has("first", "192.0.2.100").await?;
        let ingress = services.get("first").await?.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
        ensure!(ingress[0].ip_mode.as_deref() == Some("VIP"), "{ingress:?}");
        let began = std::time::Instant::now();
        asks.cut_off(&announcer);
        let other = if announcer == "worker-1" { "worker-2" } else { "worker-1" };
        lb.until_announced_by("first", other).await?;
        eprintln!("another node announces it {:?} after the first one fell silent", began.elapsed());
        asks.cut_off("");

        // An agent that starts anew finds what it gave in the Services themselves.
        running.abort();
        tokio::spawn(crate::controller::run(LoadBalancer::new(view.clone()), node.clone()));
        lb.create("second", json!({})).await?;
        lb.until_has("second", "192.0.2.101").await?;
        lb.until_has("first", "192.0.2.100").await?;

        lb.create("third", json!({})).await?;
        lb.until_told("third", "no IPv4 address of the pools is free").await?;
        lb.create("foreign", json!({ "loadBalancerClass": "example.com/other" })).await?;
        services.delete("first", &DeleteParams::default()).await?;
        lb.until_has("third", "192.0.2.100").await?;
        ensure!(lb.seen("foreign").await? == (Vec::new(), None), "a Service of another class");

        // Of another type it has no address any more.
        let patch = json!({ "spec": { "type": "ClusterIP" } });
        services.patch("third", &PatchParams::default(), &Patch::Merge(patch)).await?;
        until("nothing of it is left", || async {
            let status = services.get("third").await?.status.unwrap_or_default();
            ensure!(status.load_balancer.as_ref().is_none_or(|status| status.ingress.is_none()), "{status:?}");
            ensure!(status.conditions.as_ref().is_none_or(Vec::is_empty), "{status:?}");
            Ok(())
        })
        .await?;

        only_where_endpoints_are(&lb).await?;
        others_are_left_alone(&lb).await
    });
}

async fn only_where_endpoints_are(lb: &Cluster<'_>) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(lb.admin.kube().clone(), "default");
    lb.create("local", json!({ "externalTrafficPolicy": "Local" })).await?;
    until("it has an address that nobody announces", || async {
        let seen = lb.seen("local").await?;
        ensure!(seen == (vec!["192.0.2.100".to_owned()], None), "{seen:?}");
        Ok(())
    })
    .await?;
    for node in ["worker-2", "worker-1"] {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": "local-1", "labels": { "kubernetes.io/service-name": "local" } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.244.1.7"], "conditions": { "ready": true }, "nodeName": node }],
        });
        slices.patch("local-1", &PatchParams::apply("test").force(), &Patch::Apply(slice)).await?;
        lb.until_announced_by("local", node).await?;
    }
    lb.services.delete("local", &DeleteParams::default()).await?;
    Ok(())
}

/// A status that somebody else wrote stays as it is, and the address that it has is given to nobody.
async fn others_are_left_alone(lb: &Cluster<'_>) -> anyhow::Result<()> {
    let foreign = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.100" }] } } });
    let params = PatchParams { field_manager: Some("other-controller".to_owned()), ..PatchParams::default() };
    lb.services.patch_status("foreign", &params, &Patch::Merge(&foreign)).await?;
    lb.create("fourth", json!({})).await?;
    lb.until_told("fourth", "no IPv4 address of the pools is free").await?;
    let service = service::Service::read(&lb.services.get("foreign").await?);
    ensure!(service.written_by.as_deref() == Some("other-controller") && service.announcer.is_none(), "{service:?}");
    Ok(())
}
