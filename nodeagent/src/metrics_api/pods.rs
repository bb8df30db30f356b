//! The cluster's pods, as far as their metrics take it: on which node, with which labels. Followed by one watch, with the agent's identity.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod as KubernetesPod;
use kube::Api;
use kube::api::{ListParams, WatchParams};

use super::is_wanted;
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::controllers::watch::{self, Change, Watch};
use crate::node::Node;
use crate::resources::cluster::ApiServer;
use crate::resources::manifests::ManifestSet;

/// On a static pod's mirror: the uid by which its node's kubelet knows it (pkg/kubelet/types, ConfigHashAnnotationKey).
const STATIC_UID: &str = "kubernetes.io/config.hash";

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pods(Arc<RwLock<Known>>);

/// By namespace and name.
type All = BTreeMap<String, BTreeMap<String, Pod>>;

#[derive(Debug, Default)]
pub struct Known {
    all: All,
    /// Whether they were listed once. What has changed since then is known soon.
    listed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// As the kubelet of its node knows it.
    pub uid: String,
    pub node: String,
    pub labels: BTreeMap<String, String>,
}

impl Known {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.all.get(namespace)?.get(name)
    }

    /// Namespace, name and pod, of one namespace or of all.
    pub fn iter<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a str, &'a Pod)> {
        let namespaces = self.all.iter().filter(move |(name, _)| namespace.is_none_or(|only| only == *name));
        namespaces.flat_map(|(namespace, pods)| pods.iter().map(|(name, pod)| (namespace.as_str(), name.as_str(), pod)))
    }

    fn put(&mut self, pod: KubernetesPod) {
        let metadata = pod.metadata;
        let (Some(namespace), Some(name)) = (metadata.namespace, metadata.name) else { return };
        let known = pod.spec.and_then(|spec| spec.node_name).and_then(|node| {
            let of_static = metadata.annotations.and_then(|mut all| all.remove(STATIC_UID));
            Some(Pod { uid: of_static.or(metadata.uid)?, node, labels: metadata.labels.unwrap_or_default() })
        });
        match known {
            Some(known) => drop(self.all.entry(namespace).or_default().insert(name, known)),
            // On no node yet.
            None => self.remove(&namespace, &name),
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(pods) = self.all.get_mut(namespace) {
            pods.remove(name);
            if pods.is_empty() {
                self.all.remove(namespace);
            }
        }
    }
}

impl Pods {
    pub fn is_listed(&self) -> bool {
        self.read().listed
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// These, and no others.
    #[cfg(test)]
    pub fn of(pods: Vec<KubernetesPod>) -> Pods {
        let mut known = Known { listed: true, ..Known::default() };
        pods.into_iter().for_each(|pod| known.put(pod));
        Pods(Arc::new(RwLock::new(known)))
    }
}

/// For as long as the agent lives.
pub async fn follow(node: Node, pods: Pods) {
    watch::follow(Follow { pods, keyring: Keyring::default() }, node).await;
}

#[derive(Debug)]
struct Follow {
    pods: Pods,
    keyring: Keyring,
}

impl Watch for Follow {
    const WHAT: &'static str = "pods";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(125);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        is_wanted(machine) && ManifestSet::is_applied(&node.store) && ApiServer::any_ready(&node.store)
    }

    async fn watch(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<()> {
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<KubernetesPod> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
        let mut listed = Known { listed: true, ..Known::default() };
        let from = watch::list(&api, ListParams::default(), |pod| listed.put(pod)).await.context("listing pods")?;
        *self.pods.write() = listed;
        let mut changes = watch::changes(&api, WatchParams::default(), &from).await?;
        while let Some(change) = changes.try_next().await? {
            match change {
                Change::Added(pod) | Change::Modified(pod) => self.pods.write().put(pod),
                Change::Deleted(pod) => {
                    let metadata = pod.metadata;
                    self.pods.write().remove(&metadata.namespace.unwrap_or_default(), &metadata.name.unwrap_or_default());
                }
            }
        }
        Ok(())
    }
}
