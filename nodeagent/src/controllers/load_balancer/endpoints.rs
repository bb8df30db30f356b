//! Follows where the endpoints are of Services that only nodes with an endpoint serve: on the control plane that leads, and of no others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use futures::TryStreamExt;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Api;
use kube::api::{ListParams, WatchParams};

use super::follow::{self, selector};
use super::service::{Key, key};
use super::view::{Slice, View};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::controllers::watch::{self, Change, Watch};
use crate::node::Node;

#[derive(Debug)]
pub struct Following {
    view: View,
    keyring: Keyring,
}

impl Following {
    pub fn new(view: View) -> Following {
        Following { view, keyring: Keyring::default() }
    }

    async fn go_on(&self, api: &Api<EndpointSlice>, names: &BTreeSet<String>, labels: &str) -> anyhow::Result<()> {
        let (listed, from) = watch::all(api, ListParams::default().labels(labels)).await.context("listing")?;
        let slices = listed.iter().map(|slice| (key(&slice.metadata), read(slice))).collect();
        self.view.update(|state| (state.slices, state.listed) = (Arc::new(slices), names.clone()));
        let mut changes = watch::changes(api, WatchParams::default().labels(labels), &from).await?;
        while let Some(change) = changes.try_next().await? {
            match change {
                Change::Added(changed) | Change::Modified(changed) => self.view.update(|state| {
                    Arc::make_mut(&mut state.slices).insert(key(&changed.metadata), read(&changed));
                }),
                Change::Deleted(gone) => self.view.update(|state| {
                    Arc::make_mut(&mut state.slices).remove(&key(&gone.metadata));
                }),
            }
        }
        Ok(())
    }
}

impl Watch for Following {
    const WHAT: &'static str = "endpoints of Services of type LoadBalancer";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(125);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    fn permitted(node: &Node, machine: &Machine) -> bool {
        machine.is_control_plane() && follow::permitted(node, machine)
    }

    async fn watch(&mut self, node: &Node, _: &Machine) -> anyhow::Result<()> {
        self.view.until(|state| state.leads && !state.local().is_empty()).await;
        // It may be long since it was permitted.
        let Some(machine) = Machine::observe(node).ok().filter(|machine| Self::permitted(node, machine)) else { return Ok(()) };
        let names = self.view.picture().local();
        let Some(labels) = selector(&names) else { return Ok(()) };
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<EndpointSlice> = Api::all(api::balanced(&machine.config, &issued)?.kube().clone());
        tokio::select! {
            done = self.go_on(&api, &names, &labels) => done,
            () = self.view.until(|state| !state.leads || state.local() != names) => Ok(()),
        }
    }
}

/// What concerns the choice of a node.
fn read(slice: &EndpointSlice) -> Slice {
    let labels = slice.metadata.labels.as_ref();
    let name = labels.and_then(|labels| labels.get("kubernetes.io/service-name")).cloned().unwrap_or_default();
    let nodes = |serves: fn(&Endpoint) -> bool| -> BTreeSet<String> {
        slice.endpoints.iter().flatten().filter(|endpoint| serves(endpoint)).filter_map(|endpoint| endpoint.node_name.clone()).collect()
    };
    Slice {
        service: Key { namespace: slice.metadata.namespace.clone().unwrap_or_default(), name },
        // No word of it means yes.
        ready: nodes(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)),
        ending: nodes(|endpoint| endpoint.conditions.as_ref().is_some_and(|conditions| conditions.serving == Some(true))),
    }
}
