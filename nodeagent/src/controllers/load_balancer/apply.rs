//! Writes to Services: their addresses and who announces them into the status, server-side under a field manager of their own, so that the API
//! server refuses what others own; and an Event of what one lacks.

use std::net::IpAddr;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Service as KubernetesService};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::service::{ANNOUNCED, FIELD_MANAGER, Key};

/// Sets both, at once: without addresses, neither. As it is after that; none where it is gone.
pub async fn set(
    client: &kube::Client,
    service: &Key,
    uid: &str,
    addresses: &[IpAddr],
    node: Option<&str>,
) -> anyhow::Result<Option<KubernetesService>> {
    let Key { namespace, name } = service;
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        // With the uid, no other of the same name is meant.
        "metadata": { "name": name, "namespace": namespace, "uid": uid },
        "status": if addresses.is_empty() { json!({}) } else { status(addresses, node) },
    });
    let services: Api<KubernetesService> = Api::namespaced(client.clone(), namespace);
    match services.patch_status(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the status of Service {service}")),
    }
}

fn status(addresses: &[IpAddr], node: Option<&str>) -> Value {
    let ingress: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address, "ipMode": "VIP" })).collect();
    let (status, reason) = if node.is_some() { ("True", "NodeChosen") } else { ("False", "NoNode") };
    let condition = json!({
        "type": ANNOUNCED,
        "status": status,
        "reason": reason,
        "message": node.unwrap_or_default(),
        "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().round(k8s_openapi::jiff::Unit::Second).ok(),
    });
    json!({ "loadBalancer": { "ingress": ingress }, "conditions": [condition] })
}

pub async fn tell(client: &kube::Client, service: &Key, uid: &str, problem: &str, control_plane: &str) -> anyhow::Result<()> {
    let Key { namespace, name } = service;
    let now = Time::from(k8s_openapi::jiff::Timestamp::now());
    let event = Event {
        metadata: ObjectMeta { generate_name: Some(format!("{name}.")), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        },
        reason: Some("NoAddress".to_owned()),
        message: Some(problem.to_owned()),
        type_: Some("Warning".to_owned()),
        source: Some(EventSource { component: Some("corten-load-balancer".to_owned()), host: Some(control_plane.to_owned()) }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match events.create(&PostParams::default(), &event).await {
        // A namespace that ends takes no new objects.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(()),
        created => created.map(drop).with_context(|| format!("telling of Service {service}")),
    }
}
