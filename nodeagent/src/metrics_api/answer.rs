//! What an ask is answered with: lists and objects of both APIs, and errors as the Kubernetes API has them, in JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use controlplane::metrics_api::{Group, Pressure};
use extender::quantity;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ask::{Ask, Chosen, Of, Refused, Wanted};
use super::discovery;
use super::pods::Known;
use super::sources::Sources;
use crate::clock;
use crate::resources::overlay::ClusterNode;
use crate::usage::cluster::{Figures, Look, Moment, PodFigures};

/// Why there is no answer, as a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: StatusCode,
    /// One of Kubernetes' own words (k8s.io/apimachinery, StatusReason).
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into() }
    }

    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    fn not_found(what: &str, name: &str, why: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "NotFound", format!("{what} {name:?} not found: {why}"))
    }

    pub fn status(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        })
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        match refused {
            Refused::NoPath(path) => {
                Failure::new(StatusCode::NOT_FOUND, "NotFound", format!("the server could not find the requested resource: {path}"))
            }
            Refused::Method(method) => Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                format!("{method}: metrics are only read; expected get or list"),
            ),
            Refused::Query(parameter, problem) => Failure::new(StatusCode::BAD_REQUEST, "BadRequest", format!("{parameter}: {problem}")),
        }
    }
}

pub fn answer(ask: &Ask, sources: &Sources, now: Instant) -> Result<Value, Failure> {
    match ask {
        Ask::Groups => Ok(discovery::groups()),
        Ask::Everything => Ok(discovery::everything()),
        Ask::Group(group) => Ok(kinded("APIGroup", "v1", discovery::group(*group))),
        Ask::Resources(group) => Ok(discovery::resources(*group)),
        Ask::Metrics(wanted) => metrics(wanted, sources, now),
    }
}

fn metrics(wanted: &Wanted, sources: &Sources, now: Instant) -> Result<Value, Failure> {
    if !sources.are_complete(now) {
        return Err(Failure::unavailable("this control plane has not heard of all nodes and pods yet; try again in a moment"));
    }
    let nodes = sources.node.store.all::<ClusterNode>();
    let pods = sources.pods.read();
    let world = World { nodes: &nodes, pods: &pods, look: sources.cluster.look(now) };
    match wanted {
        Wanted::One { of: Of::Nodes, name, .. } => {
            let labels = world.nodes.get(name).map(|node| &node.labels);
            let found = labels.and_then(|labels| node_metrics(name, labels, &world.look.node(name)?));
            found
                .map(|object| kinded("NodeMetrics", &Group::Resource.api_version(), object))
                .ok_or_else(|| Failure::not_found("nodemetrics", name, SILENT))
        }
        Wanted::One { of: Of::Pods, namespace, name } => {
            let found = world.pod(namespace, name).and_then(|(labels, moment)| pod_metrics(namespace, name, labels, &moment));
            let full = format!("{namespace}/{name}");
            found
                .map(|object| kinded("PodMetrics", &Group::Resource.api_version(), object))
                .ok_or_else(|| Failure::not_found("podmetrics", &full, SILENT))
        }
        Wanted::Many { of: Of::Nodes, chosen, .. } => {
            let items = world.chosen_nodes(chosen);
            let items: Vec<Value> = items.filter_map(|(name, labels, moment)| node_metrics(name, labels, &moment)).collect();
            Ok(list("NodeMetricsList", Group::Resource, items))
        }
        Wanted::Many { of: Of::Pods, namespace, chosen } => {
            let items = world.chosen_pods(namespace.as_deref(), chosen);
            let metrics = |(namespace, name, labels, moment): ChosenPod<'_>| pod_metrics(namespace, name, labels, &moment);
            let items: Vec<Value> = items.filter_map(metrics).collect();
            Ok(list("PodMetricsList", Group::Resource, items))
        }
        Wanted::PressureOfOne { of: Of::Nodes, name, pressure, .. } => {
            let found = world.look.node(name).and_then(|moment| node_pressure(name, *pressure, &moment));
            let found = found.filter(|_| world.nodes.contains_key(name));
            found.map(|item| of_pressures(vec![item])).ok_or_else(|| no_pressure("node", name, *pressure))
        }
        Wanted::PressureOfOne { of: Of::Pods, namespace, name, pressure } => {
            let found = world.pod(namespace, name).and_then(|(_, moment)| pod_pressure(namespace, name, *pressure, &moment));
            found.map(|item| of_pressures(vec![item])).ok_or_else(|| no_pressure("pod", &format!("{namespace}/{name}"), *pressure))
        }
        Wanted::PressureOfMany { of: Of::Nodes, chosen, pressure, .. } => {
            let items = world.chosen_nodes(chosen);
            Ok(of_pressures(items.filter_map(|(name, _, moment)| node_pressure(name, *pressure, &moment)).collect()))
        }
        Wanted::PressureOfMany { of: Of::Pods, namespace, chosen, pressure } => {
            let items = world.chosen_pods(Some(namespace), chosen);
            Ok(of_pressures(items.filter_map(|(space, name, _, moment)| pod_pressure(space, name, *pressure, &moment)).collect()))
        }
    }
}

const SILENT: &str = "there is none, it has just begun, or its node has been silent for some seconds";

/// Everything at one moment.
struct World<'a> {
    nodes: &'a BTreeMap<String, ClusterNode>,
    pods: &'a Known,
    look: Look<'a>,
}

type ChosenPod<'a> = (&'a str, &'a str, &'a BTreeMap<String, String>, Moment<PodFigures>);

impl<'a> World<'a> {
    fn pod(&self, namespace: &str, name: &str) -> Option<(&'a BTreeMap<String, String>, Moment<PodFigures>)> {
        let pod = self.pods.get(namespace, name)?;
        Some((&pod.labels, self.look.pod(&pod.node, &pod.uid)?))
    }

    fn chosen_nodes(&'a self, chosen: &'a Chosen) -> impl Iterator<Item = (&'a str, &'a BTreeMap<String, String>, Moment<Figures>)> {
        let nodes = self.nodes.iter().filter(|(name, node)| {
            let field = |field: &str| (field == "metadata.name").then_some(name.as_str());
            chosen.labels.matches_all(&node.labels) && chosen.fields.matches(field)
        });
        nodes.filter_map(|(name, node)| Some((name.as_str(), &node.labels, self.look.node(name)?)))
    }

    fn chosen_pods(&'a self, namespace: Option<&'a str>, chosen: &'a Chosen) -> impl Iterator<Item = ChosenPod<'a>> {
        let pods = self.pods.iter(namespace).filter(|(namespace, name, pod)| {
            let field = |field: &str| match field {
                "metadata.name" => Some(*name),
                "metadata.namespace" => Some(*namespace),
                _ => None,
            };
            chosen.labels.matches_all(&pod.labels) && chosen.fields.matches(field)
        });
        pods.filter_map(|(namespace, name, pod)| Some((namespace, name, &pod.labels, self.look.pod(&pod.node, &pod.uid)?)))
    }
}

fn list(kind: &str, group: Group, items: Vec<Value>) -> Value {
    json!({ "kind": kind, "apiVersion": group.api_version(), "metadata": {}, "items": items })
}

/// An object that stands by itself says what it is.
fn kinded(kind: &str, api_version: &str, mut object: Value) -> Value {
    (object["kind"], object["apiVersion"]) = (kind.into(), api_version.into());
    object
}

/// None where the kernel does not tell of both.
fn usage(figures: &Figures) -> Option<Value> {
    let (cpus, memory) = (figures.average.cpus?, figures.memory_bytes?);
    Some(json!({ "cpu": quantity::nanos(cpus), "memory": quantity::kibibytes(memory) }))
}

fn node_metrics(name: &str, labels: &BTreeMap<String, String>, moment: &Moment<Figures>) -> Option<Value> {
    Some(json!({
        "metadata": { "name": name, "creationTimestamp": clock::date(moment.at), "labels": labels },
        "timestamp": clock::date(moment.at),
        "window": go_duration(moment.figures.average.over),
        "usage": usage(&moment.figures)?,
    }))
}

/// None of a pod without containers, and where one of them is not known: an autoscaler would take the rest for the whole.
fn pod_metrics(namespace: &str, name: &str, labels: &BTreeMap<String, String>, moment: &Moment<PodFigures>) -> Option<Value> {
    let containers = &moment.figures.containers;
    let window = containers.values().map(|figures| figures.average.over).max()?;
    let each = containers.iter().map(|(name, figures)| Some(json!({ "name": &**name, "usage": usage(figures)? })));
    Some(json!({
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": clock::date(moment.at), "labels": labels },
        "timestamp": clock::date(moment.at),
        "window": go_duration(window),
        "containers": each.collect::<Option<Vec<Value>>>()?,
    }))
}

fn of_pressures(items: Vec<Value>) -> Value {
    list("MetricValueList", Group::Custom, items)
}

fn no_pressure(what: &str, name: &str, pressure: Pressure) -> Failure {
    let why = format!("{SILENT}, or its kernel tells no {}", pressure.name());
    Failure::not_found(what, name, &why)
}

fn node_pressure(name: &str, pressure: Pressure, moment: &Moment<Figures>) -> Option<Value> {
    let object = json!({ "kind": "Node", "name": name, "apiVersion": "/v1" });
    metric_value(object, pressure, moment.at, &moment.figures)
}

fn pod_pressure(namespace: &str, name: &str, pressure: Pressure, moment: &Moment<PodFigures>) -> Option<Value> {
    let object = json!({ "kind": "Pod", "namespace": namespace, "name": name, "apiVersion": "/v1" });
    metric_value(object, pressure, moment.at, moment.figures.whole.as_ref()?)
}

fn metric_value(object: Value, pressure: Pressure, at: SystemTime, figures: &Figures) -> Option<Value> {
    let share = match pressure {
        Pressure::CpuSome => figures.average.cpu_some,
        Pressure::MemoryFull => figures.average.memory_full,
        Pressure::IoFull => figures.average.io_full,
    };
    Some(json!({
        "describedObject": object,
        "metric": { "name": pressure.name() },
        "timestamp": clock::date(at),
        "windowSeconds": figures.average.over.as_secs().max(1),
        "value": quantity::millis(share?),
    }))
}

/// As Go writes durations.
fn go_duration(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
