//! Writes to the API server, as the cluster's super-user.

use std::time::Duration;

use anyhow::Context;
use controlplane::metrics_api::{self, Group, NAME, NAMESPACE, slice_name};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use super::FIELD_MANAGER;
use super::plan::{Action, Identity};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::metrics_api::{MetricsServer, ServerState};

/// How long an agent that ends takes at most to say so.
const LEAVING: Duration = Duration::from_secs(1);

pub async fn apply(action: Action, machine: &Machine, node: &Node) -> anyhow::Result<()> {
    if let Action::Tell(told) = action {
        node.store.replace(told);
        return Ok(());
    }
    let client = api::super_user(&machine.config)?.kube().clone();
    let what = format!("{action:?}");
    write(action, machine, client).await.or_else(as_it_should_be).with_context(|| what)
}

/// For the moment in which an agent ends: the others are asked from then on, if there are any.
pub async fn leave(node: &Node) {
    let Ok(machine) = Machine::observe(node) else { return };
    let servers = node.store.all::<MetricsServer>();
    let (own, is) = (&machine.facts.node_name, |state| move |server: &MetricsServer| server.state == state);
    let answers = servers.get(own).is_some_and(is(ServerState::Answering));
    if !answers || !servers.values().any(is(ServerState::Heard)) {
        return;
    }
    let Some(address) = machine.facts.node_ips.first() else { return };
    let left = async {
        let client = api::super_user(&machine.config)?.kube().clone();
        anyhow::Ok(put_slice(client, own, *address, false).await?)
    };
    if let Err(error) = tokio::time::timeout(LEAVING, left).await.map_err(anyhow::Error::from).flatten() {
        tracing::debug!("leaving the metrics API to the other control planes: {error:#}");
    }
}

async fn write(action: Action, machine: &Machine, client: kube::Client) -> kube::Result<()> {
    match action {
        Action::PutService => {
            let services: Api<Service> = Api::namespaced(client, NAMESPACE);
            services.patch(NAME, &forced(), &Patch::Apply(metrics_api::service())).await.map(drop)
        }
        Action::RemoveService => {
            let services: Api<Service> = Api::namespaced(client, NAMESPACE);
            services.delete(NAME, &DeleteParams::default()).await.map(drop)
        }
        Action::PutSlice { node, address, ready } => put_slice(client, &node, address, ready).await,
        Action::RemoveSlice { node } => {
            let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
            slices.delete(&slice_name(&node), &DeleteParams::default()).await.map(drop)
        }
        Action::Register { group, over } => register(client, machine, group, over).await,
        Action::Unregister { name, identity } => {
            let preconditions = Some(Preconditions { uid: identity.uid, resource_version: identity.resource_version });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            Api::<APIService>::all(client).delete(&name, &params).await.map(drop)
        }
        Action::Tell(_) => Ok(()),
    }
}

async fn put_slice(client: kube::Client, node: &str, address: std::net::IpAddr, ready: bool) -> kube::Result<()> {
    let slice = metrics_api::slice(node, address, ready);
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    slices.patch(&slice_name(node), &forced(), &Patch::Apply(slice)).await.map(drop)
}

/// Only over the very object that was looked at: one that somebody made or changed in the meantime is theirs.
async fn register(client: kube::Client, machine: &Machine, group: Group, over: Option<Identity>) -> kube::Result<()> {
    let authorities = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
    let mut object = metrics_api::api_service(group, authorities);
    let all: Api<APIService> = Api::all(client);
    match over {
        None => {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            all.create(&params, &object).await.map(drop)
        }
        Some(identity) => {
            (object.metadata.uid, object.metadata.resource_version) = (identity.uid, identity.resource_version);
            all.patch(&group.object_name(), &forced(), &Patch::Apply(object)).await.map(drop)
        }
    }
}

fn forced() -> PatchParams {
    PatchParams { force: true, ..PatchParams::apply(FIELD_MANAGER) }
}

/// Another control plane, or somebody else, was faster: the next look finds out what is left to do.
fn as_it_should_be(error: kube::Error) -> kube::Result<()> {
    match error {
        kube::Error::Api(status) if [404, 409].contains(&status.code) => Ok(()),
        other => Err(other),
    }
}
