//! Follows which API servers are members of the cluster: the endpoints of Service `kubernetes`, which API servers keep among themselves, and
//! leave when they end. What was heard last is kept on STATE.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use controlplane::ports::API_SERVER_PORT;
use futures::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, WatchParams};

use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::controllers::watch::{self, Watch};
use crate::node::Node;
use crate::resources::api_servers::{self, Membership};
use crate::resources::cluster::ApiServer;

/// kube-apiserver's name for the slice of its own endpoints (pkg/controlplane/reconcilers in Kubernetes' source).
const SLICES: &str = "kubernetes.io/service-name=kubernetes";

/// Runs for as long as the agent lives.
pub async fn follow(node: Node) {
    match api_servers::load(&node.root) {
        Ok(Some(known)) => node.store.put(Membership::NAME, &known),
        Ok(None) => {}
        Err(error) => tracing::warn!("{error:#}"),
    }
    watch::follow(Members::default(), node).await;
}

#[derive(Debug, Default)]
struct Members {
    keyring: Keyring,
}

impl Watch for Members {
    const WHAT: &'static str = "the cluster's API servers";
    const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
    const LONGEST_PAUSE: Duration = Duration::from_secs(15);

    fn permitted(node: &Node, _: &Machine) -> bool {
        ApiServer::any_ready(&node.store)
    }

    async fn watch(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<()> {
        let issued = self.keyring.get(node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let api: Api<EndpointSlice> = Api::namespaced(api::balanced(&machine.config, &issued)?.kube().clone(), "default");
        let listed = api.list(&ListParams::default().labels(SLICES)).await.context("listing endpoint slices")?;
        let from = listed.metadata.resource_version.clone().unwrap_or_default();
        note(node, &listed.items)?;
        let mut changes = watch::changes(&api, WatchParams::default().labels(SLICES), &from).await?;
        // There may be one for each family: all of them count together.
        while changes.try_next().await?.is_some() {
            note(node, &api.list(&ListParams::default().labels(SLICES)).await.context("listing endpoint slices")?.items)?;
        }
        Ok(())
    }
}

/// None at all would leave the machine without any: such an answer is not believed.
fn note(node: &Node, slices: &[EndpointSlice]) -> anyhow::Result<()> {
    let addresses = addresses(slices);
    if addresses.is_empty() { Ok(()) } else { api_servers::save(node, &Membership::new(addresses)) }
}

fn addresses(slices: &[EndpointSlice]) -> BTreeSet<SocketAddr> {
    let of_slice = |slice: &EndpointSlice| {
        let port = slice.ports.iter().flatten().find_map(|port| u16::try_from(port.port?).ok()).unwrap_or(API_SERVER_PORT);
        let texts: Vec<String> = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        texts.into_iter().filter_map(move |text| Some(SocketAddr::new(text.parse().ok()?, port)))
    };
    slices.iter().flat_map(of_slice).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_of_all_families_count() {
        let slice = |addresses: &[&str]| {
            let endpoints: Vec<_> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
            let slice = json!({ "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "https", "port": 6443 }] });
            serde_json::from_value::<EndpointSlice>(slice).unwrap()
        };
        let found = addresses(&[slice(&["192.0.2.10", "192.0.2.11"]), slice(&["2001:db8::10"])]);
        let texts: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        assert_eq!(texts, ["192.0.2.10:6443", "192.0.2.11:6443", "[2001:db8::10]:6443"]);
        assert!(addresses(&[slice(&[])]).is_empty());
    }
}
