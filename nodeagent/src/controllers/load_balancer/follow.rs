//! Follows the cluster's Services of type LoadBalancer, on every machine that may announce their addresses, with the agent's identity.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service as KubernetesService;
use kube::Api;
use kube::api::{ListParams, WatchParams};

use super::service::{Key, Service, key};
use super::view::View;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::controllers::watch::{self, Change, Watch};
use crate::controllers::{api, cluster_node};
use crate::node::Node;

/// By the API server's own index: one that becomes of another type is told of as deleted.
const FIELDS: &str = "spec.type=LoadBalancer";

#[derive(Debug)]
pub struct Following {
    view: View,
    keyring: Keyring,
}

impl Following {
    pub fn new(view: View) -> Following {
        Following { view, keyring: Keyring::default() }
    }
}

/// Whether this machine follows them at all.
pub fn permitted(node: &Node, machine: &Machine) -> bool {
    !machine.config.cluster.network.load_balancer.pools.is_empty() && cluster_node::may_watch(node, machine)
}

impl Watch for Following {
    const WHAT: &'static str = "Services of type LoadBalancer";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(125);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        permitted(node, machine)
    }

    /// What was known stays known while no API server answers: the addresses are held on.
    async fn watch(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<()> {
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<KubernetesService> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
        let mut listed = Vec::new();
        let from = watch::list(&api, ListParams::default().fields(FIELDS), |service| {
            listed.push((key(&service.metadata), Service::read(&service)))
        });
        let from = from.await.context("listing")?;
        self.view.update(|state| state.services = Some(Arc::new(listed.into_iter().collect())));
        let mut changes = watch::changes(&api, WatchParams::default().fields(FIELDS), &from).await?;
        while let Some(change) = changes.try_next().await? {
            match change {
                Change::Added(changed) | Change::Modified(changed) => put(&self.view, &changed),
                Change::Deleted(gone) => remove(&self.view, &key(&gone.metadata)),
            }
        }
        Ok(())
    }
}

/// As it is now, by a watch or by what the API server answered to a change.
pub fn put(view: &View, changed: &KubernetesService) {
    view.update(|state| {
        Arc::make_mut(state.services.get_or_insert_default()).insert(key(&changed.metadata), Service::read(changed));
    });
}

pub fn remove(view: &View, gone: &Key) {
    view.update(|state| {
        Arc::make_mut(state.services.get_or_insert_default()).remove(gone);
    });
}

/// Forgets all where there are no pools any more.
pub fn forget(view: &View) {
    view.update(|state| state.services = None);
}

/// A selector of the slices of these Services; none for none.
pub fn selector(names: &BTreeSet<String>) -> Option<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("kubernetes.io/service-name in ({})", names.join(",")))
}
