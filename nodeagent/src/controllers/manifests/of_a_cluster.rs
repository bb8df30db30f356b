//! Manifests against a real API server: what is applied, changed and pruned, and what people have made their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use controlplane::etcd::MemberId;
use controlplane::manifests::Reference;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use machine::config::Manifest;
use serde_json::json;

use super::*;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::node::Applied;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::manifests::ManifestState;
use crate::resources::network::{Hostname, NodeIps};

const CRD: &str = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: lamps.example.com}, spec: {\
    group: example.com, scope: Namespaced, names: {plural: lamps, singular: lamp, kind: Lamp}, versions: [{name: v1, served: true, \
    storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}";

fn config_map(name: &str, data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: shop}}, data: {data}}}")
}

/// A control plane's agent, and the namespace that its manifests fill.
struct Shop<'a> {
    node: &'a Node,
    maps: Api<ConfigMap>,
}

impl Shop<'_> {
    /// Puts a config in force, and waits until everything was tried and pruned.
    async fn configure(&self, manifests: &[(&str, String)]) -> Result<()> {
        let node = self.node;
        let applied = node.config().context("it has one")?;
        let mut config = (*applied.config).clone();
        config.cluster.manifests =
            manifests.iter().map(|(name, contents)| Manifest { name: (*name).to_owned(), contents: contents.clone() }).collect();
        let objects = controlplane::manifests::manifests(&config)?.len();
        let before = node.store.get::<ManifestSet>(ManifestSet::NAME).map(|set| set.digest);
        node.set_config(Applied { generation: applied.generation + 1, config: Arc::new(config) });
        until("the manifests are applied and pruned", || async {
            let set = node.store.get::<ManifestSet>(ManifestSet::NAME).context("not applied")?;
            ensure!(set.pruned && set.objects == objects && Some(&set.digest) != before.as_ref(), "{set:?}");
            Ok(())
        })
        .await
    }

    async fn state(&self, id: &str, state: ManifestState) -> Result<ManifestStatus> {
        until(id, || async {
            let told = self.node.store.get::<ManifestStatus>(id).context("not told")?;
            ensure!(told.state == state, "{told:?}");
            Ok(told)
        })
        .await
    }

    async fn value(&self, map: &str, key: &str) -> Result<Option<String>> {
        Ok(self.maps.get_opt(map).await?.and_then(|map| map.data).and_then(|mut data| data.remove(key)))
    }
}

#[test]
fn manifests_are_applied_and_pruned_and_never_fight_anybody() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            let kube = cluster.admin()?.kube().clone();
            let shop = Shop { node, maps: Api::namespaced(kube.clone(), "shop") };
            let lamp = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Lamp"));
            let lamps: Api<DynamicObject> = Api::namespaced_with(kube.clone(), "shop", &lamp);
            let crds: Api<CustomResourceDefinition> = Api::all(kube.clone());

            // All at once and in the wrong order, with bad ones among them.
            let everything = [
                ("lamp", format!("{{apiVersion: example.com/v1, kind: Lamp, metadata: {{name: desk, namespace: shop}}}}\n---\n{CRD}")),
                ("bad", format!("{}\n---\n{}", config_map("bad", "[1, 2]"), config_map("after-bad", "{a: '1'}"))),
                ("unknown", "{apiVersion: example.org/v1, kind: Nothing, metadata: {name: x}}".to_owned()),
                ("labels", "{apiVersion: v1, kind: ConfigMap, metadata: {name: labels, namespace: shop, labels: {a: {b: c}}}}".to_owned()),
                ("maps", ["own", "edited", "shared", "remade", "of-two"].map(|name| config_map(name, "{greeting: hello}")).join("\n---\n")),
                ("shop", "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}".to_owned()),
            ];
            shop.configure(&everything).await?;
            shop.state("Lamp.example.com/shop/desk", ManifestState::Applied).await?;
            lamps.get("desk").await.context("a custom resource beside its definition")?;
            let bad = shop.state("ConfigMap/shop/bad", ManifestState::Refused).await?;
            ensure!(bad.manifest == "bad" && !bad.message.is_empty(), "{bad:?}");
            shop.state("ConfigMap/shop/labels", ManifestState::Refused).await?;
            shop.state("Nothing.example.org/x", ManifestState::Waiting).await?;
            shop.state("ConfigMap/shop/after-bad", ManifestState::Applied).await?;
            ensure!(shop.value("own", "greeting").await?.as_deref() == Some("hello"));
            // What was in the config before is gone, but for what others may keep things in.
            let before: Api<ConfigMap> = Api::namespaced(kube.clone(), "demo");
            ensure!(before.get_opt("users-own").await?.is_none(), "it is in no manifest any more");
            shop.state("Namespace/demo", ManifestState::Left).await?;

            // People and their tools.
            let manager = |name: &str| PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() };
            let edit = |text: &str| Patch::Merge(json!({ "data": { "greeting": text } }));
            shop.maps.patch("edited", &manager("kubectl-edit"), &edit("good evening")).await?;
            let shared = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "shared" }, "data": { "flux": "1" } });
            shop.maps.patch("shared", &PatchParams::apply("flux"), &Patch::Apply(shared)).await?;
            shop.maps.delete("remade", &DeleteParams::default()).await?;
            let remade = json!({ "metadata": { "name": "remade" }, "data": { "greeting": "mine" } });
            shop.maps.create(&Default::default(), &serde_json::from_value(remade)?).await?;
            // Another control plane, whose config has one of them still.
            let of_two = Reference {
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                namespace: Some("shop".to_owned()),
                name: "of-two".to_owned(),
            };
            members(node, &["cp-1", "cp-2"]);
            let other = [("cp-2".to_owned(), Some(BTreeSet::from([of_two])))].into();
            inventory::save(&cluster.admin()?, &other).await?;

            // A change where somebody has edited is a conflict; the others go on.
            let hey = ["own", "edited", "of-two"].map(|name| config_map(name, "{greeting: hey}")).join("\n---\n");
            shop.configure(&[("maps", hey), everything[5].clone()]).await?;
            let conflict = shop.state("ConfigMap/shop/edited", ManifestState::Conflict).await?;
            ensure!(conflict.message.contains(".data.greeting (kubectl-edit)"), "{conflict:?}");
            ensure!(shop.value("edited", "greeting").await?.as_deref() == Some("good evening"), "the user's word stays");
            ensure!(shop.value("own", "greeting").await?.as_deref() == Some("hey"));
            // What vanished from it is gone, but not what is somebody else's by now.
            ensure!(lamps.get_opt("desk").await?.is_none(), "its custom resource is pruned");
            crds.get("lamps.example.com").await.context("its definition stays")?;
            shop.state("CustomResourceDefinition.apiextensions.k8s.io/lamps.example.com", ManifestState::Left).await?;
            ensure!(shop.value("shared", "flux").await?.as_deref() == Some("1"), "who applies it as well keeps it");
            ensure!(shop.value("shared", "greeting").await?.is_none(), "but Corten's part of it goes");
            ensure!(shop.value("remade", "greeting").await?.as_deref() == Some("mine"), "what somebody made anew stays");
            ensure!(shop.maps.get_opt("after-bad").await?.is_none());
            ensure!(node.store.get::<ManifestStatus>("ConfigMap/shop/bad").is_none(), "it is not told of any more");

            // Once the user gives it up, it is applied without anybody's doing.
            shop.maps.patch("edited", &manager("kubectl-edit"), &Patch::Merge(json!({ "data": { "greeting": null } }))).await?;
            shop.state("ConfigMap/shop/edited", ManifestState::Applied).await?;
            ensure!(shop.value("edited", "greeting").await?.as_deref() == Some("hey"));

            // Two control planes: what one of them wants stays; what one that left wanted goes.
            shop.configure(&[everything[5].clone()]).await?;
            ensure!(shop.maps.get_opt("own").await?.is_none());
            ensure!(shop.value("of-two", "greeting").await?.as_deref() == Some("hey"), "another control plane wants it");
            members(node, &["cp-1"]);
            shop.configure(&[]).await?;
            ensure!(shop.maps.get_opt("of-two").await?.is_none(), "nobody wants it any more");

            // Of Corten's own objects, what people edit is theirs, at the next boot too, and the rest is kept right.
            let system: Api<ConfigMap> = Api::namespaced(kube.clone(), "kube-system");
            let corefile = Patch::Merge(json!({ "data": { "Corefile": ".:53 {}" }, "metadata": { "labels": { "k8s-app": null } } }));
            system.patch("coredns", &manager("kubectl-edit"), &corefile).await?;
            node.store.replace::<ManifestStatus>([]);
            let yielded = shop.state("ConfigMap/kube-system/coredns", ManifestState::Yielded).await?;
            ensure!(yielded.message.contains(".data.Corefile (kubectl-edit)"), "{yielded:?}");
            let kept = system.get("coredns").await?;
            ensure!(kept.data.is_some_and(|data| data["Corefile"] == ".:53 {}"));
            ensure!(kept.metadata.labels.is_some_and(|labels| labels["k8s-app"] == "kube-dns"));
            Ok(())
        },
    );
}

/// A second control plane's agent, with the same config, at the same API server.
fn another(first: &Node, name: &str) -> Result<Node> {
    let node = Node::new(first.root.clone(), first.init.clone());
    node.set_config(first.config().context("it has one")?);
    node.store.put(Hostname::NAME, &Hostname { hostname: name.to_owned(), source: "config".to_owned() });
    node.store.put(NodeIps::NAME, &first.store.get::<NodeIps>(NodeIps::NAME).context("it has one")?);
    node.store.replace(first.store.all::<ApiServer>());
    tokio::spawn(crate::controller::run(Manifests::default(), node.clone()));
    Ok(node)
}

#[test]
fn control_planes_do_not_fight_each_other() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let maps: Api<ConfigMap> = Api::namespaced(cluster.admin()?.kube().clone(), "shop");
            let (first, second) = (cluster.node.clone(), another(&cluster.node, "cp-2")?);
            for node in [&first, &second] {
                members(node, &["cp-1", "cp-2"]);
            }
            let [first, second] = [&first, &second].map(|node| Shop { node, maps: maps.clone() });
            let shop = ("shop", "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}".to_owned());
            let version = |text: &str| ("maps", config_map("goods", &format!("{{price: '{text}'}}")));
            let extra = ("extra", config_map("extra", "{}"));
            let unknown = ("unknown", "{apiVersion: example.org/v1, kind: Nothing, metadata: {name: x}}".to_owned());
            let old = [shop.clone(), version("1"), extra, unknown];
            let new = [shop.clone(), version("2")];
            for each in [&first, &second] {
                each.configure(&old).await?;
            }

            // In the middle of a change of both: the newer word stands, and what one of them still wants stays.
            first.configure(&new).await?;
            ensure!(first.value("goods", "price").await?.as_deref() == Some("2"));
            maps.get("extra").await.context("the second one wants it still")?;
            // The second one works on, at what it could not apply, and touches nothing else.
            let before = maps.get("goods").await?.metadata.resource_version;
            let tries = || second.node.store.get::<ManifestStatus>("Nothing.example.org/x").map_or(0, |told| told.tries);
            let tried = tries();
            until("the second one has looked again", || async {
                ensure!(tries() > tried, "{} tries", tries());
                Ok(())
            })
            .await?;
            ensure!(maps.get("goods").await?.metadata.resource_version == before, "nobody has written it");

            // The second one comes after: nothing is written that stands there already, and now nobody wants the extra.
            second.configure(&new).await?;
            ensure!(maps.get("goods").await?.metadata.resource_version == before, "the same is no change");
            ensure!(maps.get_opt("extra").await?.is_none());

            // One leaves for good: what only it had goes with the next change of the others.
            second.configure(&[shop.clone(), version("2"), ("late", config_map("late", "{}"))]).await?;
            members(first.node, &["cp-1"]);
            first.configure(&[shop, version("3")]).await?;
            ensure!(maps.get_opt("late").await?.is_none(), "its only control plane is gone");
            Ok(())
        },
    );
}

/// Makes these the members of etcd.
fn members(node: &Node, names: &[&str]) {
    let member = |name: &str| EtcdMember {
        id: MemberId(1),
        role: EtcdRole::Voter,
        local: name == "cp-1",
        healthy: true,
        message: String::new(),
        version: String::new(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
    };
    node.store.replace(names.iter().map(|name| ((*name).to_owned(), member(name))));
}
