//! Follows policies with the agent's identity, and, while there are any, namespaces and pods: a cluster without policies costs one idle
//! watch. Of pods the API server leaves out those that policies cannot be about.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::cluster::{self, Cluster, Labels, NamedPort, Pod, Protocol, Words};
use super::plan::is_ours;
use super::pod::PodPart;
use super::sandboxes;
use super::spec::Policy;
use super::view::{Listed, View};
use crate::controllers::api;
use crate::controllers::cluster_node::may_watch;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::controllers::watch::{self, Watch};
use crate::node::Node;

pub async fn follow(node: Node, view: View) {
    tokio::join!(
        sandboxes::follow(node.clone(), view.clone()),
        watch::follow(Following::<NetworkPolicy>::new(view.clone()), node.clone()),
        watch::follow(Following::<Namespace>::new(view.clone()), node.clone()),
        watch::follow(Following::<PodPart>::new(view), node),
    );
}

/// A kind that is followed into the view.
trait Followed: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static {
    const WHAT: &'static str;
    /// Which of them.
    const FIELDS: &'static str = "";
    /// Whether they are of interest only while there are policies.
    const FOR_POLICIES: bool = true;

    fn listed(listed: &mut Listed) -> &mut bool;
    /// Forgets all but these, by namespace and name.
    fn retain(cluster: &mut Cluster, names: &BTreeSet<(String, String)>);
    /// Whether that changes anything; as all these.
    fn put(&self, cluster: &mut Cluster, words: &mut Words) -> bool;
    fn remove(&self, cluster: &mut Cluster) -> bool;
}

#[derive(Debug)]
struct Following<K> {
    view: View,
    keyring: Keyring,
    /// Where the watch before came to; none: all have to be listed.
    from: Option<String>,
    kind: PhantomData<K>,
}

impl<K> Following<K> {
    fn new(view: View) -> Following<K> {
        Following { view, keyring: Keyring::default(), from: None, kind: PhantomData }
    }
}

impl<K: Followed> Watch for Following<K> {
    const WHAT: &'static str = K::WHAT;
    const SHORTEST_PAUSE: Duration = Duration::from_millis(125);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        is_ours(&machine.config.cluster.network) && may_watch(node, machine)
    }

    async fn watch(&mut self, node: &Node, _: &Machine) -> anyhow::Result<()> {
        if K::FOR_POLICIES {
            self.view.until_policies(true).await;
        }
        // It may be long since it was permitted.
        let Some(machine) = Machine::observe(node).ok().filter(|machine| Self::permitted(node, machine)) else { return Ok(()) };
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<K> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
        if !K::FOR_POLICIES {
            return self.go_on(&api).await;
        }
        let view = self.view.clone();
        tokio::select! {
            done = self.go_on(&api) => done,
            () = view.until_policies(false) => {
                self.forget();
                Ok(())
            }
        }
    }
}

impl<K: Followed> Following<K> {
    /// Watches on from where the last one ended, or lists first.
    async fn go_on(&mut self, api: &Api<K>) -> anyhow::Result<()> {
        let followed = self.try_to_go_on(api).await;
        // What it was to go on from is too old, or not known to this server.
        if followed.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(kube::Error::Api(_)))) {
            self.from = None;
        }
        followed
    }

    async fn try_to_go_on(&mut self, api: &Api<K>) -> anyhow::Result<()> {
        let from = match &self.from {
            Some(from) => from.clone(),
            None => {
                let (objects, from) = watch::all(api, ListParams::default().fields(K::FIELDS)).await.context("listing")?;
                self.put_all(&objects);
                from
            }
        };
        self.from = Some(from.clone());
        let params = WatchParams::default().fields(K::FIELDS);
        let mut events = std::pin::pin!(api.watch(&params, &from).await.context("watching")?);
        while let Some(event) = events.try_next().await.context("watching")? {
            let at = match event {
                WatchEvent::Added(changed) | WatchEvent::Modified(changed) => {
                    self.view.update(|cluster, words, _| changed.put(cluster, words));
                    changed.meta().resource_version.clone()
                }
                WatchEvent::Deleted(gone) => {
                    self.view.update(|cluster, _, _| gone.remove(cluster));
                    gone.meta().resource_version.clone()
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            self.from = at.or(self.from.take());
        }
        Ok(())
    }

    /// Makes these the only ones.
    fn put_all(&self, objects: &[K]) {
        let name = |object: &K| (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default());
        let names: BTreeSet<(String, String)> = objects.iter().map(name).collect();
        self.view.update(|cluster, words, listed| {
            K::retain(cluster, &names);
            for object in objects {
                object.put(cluster, words);
            }
            words.tidy();
            *K::listed(listed) = true;
            true
        });
    }

    fn forget(&mut self) {
        self.from = None;
        self.view.update(|cluster, words, listed| {
            K::retain(cluster, &BTreeSet::new());
            words.tidy();
            *K::listed(listed) = false;
            true
        });
    }
}

fn retain<T>(objects: &mut cluster::ByName<T>, names: &BTreeSet<(String, String)>) {
    for (namespace, there) in objects.iter_mut() {
        there.retain(|name, _| names.contains(&(namespace.to_string(), name.to_string())));
    }
    objects.retain(|_, there| !there.is_empty());
}

/// Namespace and name; empty for what has none.
fn names<K: Resource>(object: &K) -> (&str, &str) {
    (object.meta().namespace.as_deref().unwrap_or_default(), object.meta().name.as_deref().unwrap_or_default())
}

impl Followed for NetworkPolicy {
    const WHAT: &'static str = "network policies";
    const FOR_POLICIES: bool = false;

    fn listed(listed: &mut Listed) -> &mut bool {
        &mut listed.policies
    }

    fn retain(cluster: &mut Cluster, names: &BTreeSet<(String, String)>) {
        retain(&mut cluster.policies, names);
    }

    fn put(&self, cluster: &mut Cluster, words: &mut Words) -> bool {
        let (namespace, name) = names(self);
        cluster::put(&mut cluster.policies, words.get(namespace), words.get(name), Policy::read(self))
    }

    fn remove(&self, cluster: &mut Cluster) -> bool {
        let (namespace, name) = names(self);
        cluster::remove(&mut cluster.policies, namespace, name)
    }
}

impl Followed for Namespace {
    const WHAT: &'static str = "namespaces";

    fn listed(listed: &mut Listed) -> &mut bool {
        &mut listed.namespaces
    }

    fn retain(cluster: &mut Cluster, names: &BTreeSet<(String, String)>) {
        cluster.namespaces.retain(|name, _| names.contains(&(String::new(), name.to_string())));
    }

    fn put(&self, cluster: &mut Cluster, words: &mut Words) -> bool {
        let labels = Labels::new(words, self.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()));
        let name = words.get(names(self).1);
        cluster.namespaces.insert(name, labels.clone()).as_ref() != Some(&labels)
    }

    fn remove(&self, cluster: &mut Cluster) -> bool {
        cluster.namespaces.remove(names(self).1).is_some()
    }
}

impl Followed for PodPart {
    const WHAT: &'static str = "pods";
    // Those of the host's network have the machine's address, and policies are not about them; those that have ended have none any more.
    const FIELDS: &'static str = "spec.hostNetwork=false,status.phase!=Succeeded,status.phase!=Failed";

    fn listed(listed: &mut Listed) -> &mut bool {
        &mut listed.pods
    }

    fn retain(cluster: &mut Cluster, names: &BTreeSet<(String, String)>) {
        retain(&mut cluster.pods, names);
    }

    fn put(&self, cluster: &mut Cluster, words: &mut Words) -> bool {
        let (namespace, name) = names(self);
        let pod = pod(self, words);
        cluster.put_pod(words.get(namespace), words.get(name), pod)
    }

    fn remove(&self, cluster: &mut Cluster) -> bool {
        let (namespace, name) = names(self);
        cluster::remove(&mut cluster.pods, namespace, name)
    }
}

/// What policies need to know of a pod.
pub fn pod(part: &PodPart, words: &mut Words) -> Pod {
    let addresses: BTreeSet<IpAddr> = part.status.pod_ips.iter().filter_map(|address| address.ip.parse().ok()).collect();
    let ports = part.named_ports().filter_map(|port| {
        let protocol = Protocol::read(port.protocol.as_deref())?;
        Some(NamedPort { name: words.get(&port.name), protocol, number: port.container_port })
    });
    let ports = ports.collect();
    Pod {
        node: words.get(&part.spec.node_name),
        labels: Labels::new(words, part.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())),
        addresses: addresses.into_iter().collect(),
        ports,
    }
}

/// A cluster as it is known once all of it is listed.
#[cfg(test)]
pub fn cluster(namespaces: &[Namespace], policies: &[NetworkPolicy], pods: &[PodPart]) -> Cluster {
    let (mut cluster, mut words) = (Cluster::default(), Words::default());
    for namespace in namespaces {
        namespace.put(&mut cluster, &mut words);
    }
    for policy in policies {
        policy.put(&mut cluster, &mut words);
    }
    for pod in pods {
        pod.put(&mut cluster, &mut words);
    }
    cluster
}
