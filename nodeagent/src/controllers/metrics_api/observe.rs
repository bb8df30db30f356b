//! What the cluster has of it.

use std::collections::BTreeMap;

use anyhow::Context;
use controlplane::manifests;
use controlplane::metrics_api::{self, Group, NAME, NAMESPACE, SERVICE_NAME_LABEL};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::ListParams;

use super::plan::{By, Found, Identity, Registered, Seen, Slice, is_concerned};
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::cluster::ApiServer;
use crate::resources::etcd::EtcdMember;
use crate::resources::manifests::ManifestSet;
use crate::resources::metrics_api::{MetricsApi, MetricsServer};

pub async fn observe(node: &Node) -> anyhow::Result<Seen> {
    let machine = Machine::observe(node);
    let applied = ManifestSet::is_applied(&node.store) && ApiServer::local_ready(&node.store);
    let concerned = machine.as_ref().ok().filter(|machine| applied && is_concerned(machine));
    Ok(Seen {
        applied,
        servers: node.store.all::<MetricsServer>(),
        members: EtcdMember::control_planes(&node.store),
        claimed: concerned.map(claimed).transpose()?.unwrap_or_default(),
        found: match concerned {
            Some(machine) => Some(look(machine).await?),
            None => None,
        },
        told: node.store.all::<MetricsApi>(),
        may_return: true,
        machine,
    })
}

/// Groups of which a manifest of the config has an APIService.
fn claimed(machine: &Machine) -> anyhow::Result<BTreeMap<Group, String>> {
    let mut claimed = BTreeMap::new();
    for manifest in manifests::manifests(&machine.config)? {
        let manifests::Origin::User(name) = manifest.origin else { continue };
        let reference = &manifest.reference;
        let group = Group::ALL.into_iter().find(|group| reference.name.split_once('.').is_some_and(|(_, of)| of == group.name()));
        if let Some(group) = group.filter(|_| reference.kind == "APIService") {
            claimed.insert(group, name);
        }
    }
    Ok(claimed)
}

async fn look(machine: &Machine) -> anyhow::Result<Found> {
    let client = api::super_user(&machine.config)?.kube().clone();
    // At once: while this goes on, a control plane that died is still asked.
    let registered = async {
        let listed = Api::<APIService>::all(client.clone()).list(&ListParams::default()).await;
        listed.context("listing APIServices")
    };
    let service = async {
        let found = Api::<Service>::namespaced(client.clone(), NAMESPACE).get_opt(NAME).await;
        found.with_context(|| format!("reading Service {NAMESPACE}/{NAME}"))
    };
    let slices = async {
        let of_service = ListParams::default().labels(&format!("{SERVICE_NAME_LABEL}={NAME}"));
        let listed = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE).list(&of_service).await;
        listed.context("listing EndpointSlices")
    };
    let (registered, service, slices) = tokio::try_join!(registered, service, slices)?;
    let authorities = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
    Ok(Found {
        registered: registered.items.into_iter().filter_map(|object| describe(object, authorities)).collect(),
        service: service.is_some_and(|service| is_ours(&service)),
        slices: slices.items.into_iter().filter_map(slice).collect(),
    })
}

fn is_ours(service: &Service) -> bool {
    let wanted = metrics_api::service();
    let ports = |service: &Service| service.spec.as_ref().and_then(|spec| spec.ports.clone());
    ports(service) == ports(&wanted)
}

/// None of one of another group.
fn describe(object: APIService, authorities: &str) -> Option<Registered> {
    let spec = object.spec?;
    let group = Group::ALL.into_iter().find(|group| spec.group.as_deref() == Some(group.name()))?;
    let service = spec.service.as_ref().map(|service| (service.namespace.as_deref(), service.name.as_deref()));
    let by = match service {
        Some((Some(NAMESPACE), Some(NAME))) => {
            By::Corten { current: Some(&spec) == metrics_api::api_service(group, authorities).spec.as_ref() }
        }
        Some((namespace, name)) => By::Other(format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())),
        // One that the API server itself answers.
        None => By::Other("kube-apiserver".to_owned()),
    };
    let conditions = object.status.and_then(|status| status.conditions).unwrap_or_default();
    let unavailable = conditions.into_iter().find(|condition| condition.type_ == "Available" && condition.status != "True");
    let message = unavailable.map(|condition| {
        let (reason, message) = (condition.reason.unwrap_or_default(), condition.message.unwrap_or_default());
        format!("{reason}: {message}")
    });
    Some(Registered {
        name: object.metadata.name?,
        group,
        by,
        identity: Identity { uid: object.metadata.uid, resource_version: object.metadata.resource_version },
        message: message.unwrap_or_default(),
    })
}

/// By the node that its name says.
fn slice(object: EndpointSlice) -> Option<(String, Slice)> {
    let node = object.metadata.name?.strip_prefix(&metrics_api::slice_name(""))?.to_owned();
    let endpoint = object.endpoints?.into_iter().next()?;
    let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    Some((node, Slice { address: endpoint.addresses.into_iter().next()?, ready }))
}
