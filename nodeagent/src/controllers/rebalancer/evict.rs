//! Asks the API server to evict one pod, and tells whoever looks at the pod why.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::api::policy::v1::Eviction as Asked;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions, Time};
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;
use tokio::time::timeout;

use super::plan::Eviction;
use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::node::Node;

/// Less than what a holder of the seat has left when it begins (`leader`).
const DEADLINE: Duration = Duration::from_secs(3);

/// What the API server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A disruption budget does not let it go now, or it has gone.
    Refused(String),
}

impl Outcome {
    pub fn is_done(&self) -> bool {
        *self == Outcome::Done
    }

    /// Of the event.
    pub fn reason(&self, eviction: &Eviction) -> &'static str {
        match (self, eviction.dry_run) {
            (Outcome::Done, false) => "Evicted",
            (Outcome::Done, true) => "WouldEvict",
            (Outcome::Refused(_), _) => "NotEvicted",
        }
    }

    pub fn text(&self, eviction: &Eviction) -> String {
        let Eviction { namespace, pod, why, .. } = eviction;
        match self {
            Outcome::Done => format!("{} pod {namespace}/{pod}: {why}", self.reason(eviction)),
            Outcome::Refused(refusal) => format!("{} pod {namespace}/{pod}, although {why}: {refusal}", self.reason(eviction)),
        }
    }
}

pub async fn evict(node: &Node, eviction: &Eviction) -> anyhow::Result<Outcome> {
    let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
    let client = api::reliever(&machine.config, &machine.facts.node_name)?;
    let Eviction { namespace, pod, uid, .. } = eviction;
    let pods: Api<Pod> = Api::namespaced(client.kube().clone(), namespace);
    let asked = Asked {
        metadata: ObjectMeta { name: Some(pod.clone()), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        delete_options: Some(DeleteOptions {
            // Another pod may have come to the same name.
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteOptions::default()
        }),
    };
    let params = PostParams { dry_run: eviction.dry_run, ..PostParams::default() };
    let answer = timeout(DEADLINE, pods.create_subresource::<_, Value>("eviction", pod, &params, &asked)).await;
    let outcome = match answer.with_context(|| format!("evicting pod {namespace}/{pod}: no answer"))? {
        Ok(_) => Outcome::Done,
        // 429 of a budget, 404 and 409 of a pod that is another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 429) => Outcome::Refused(status.message.clone()),
        Err(error) => return Err(error).with_context(|| format!("evicting pod {namespace}/{pod}")),
    };
    let events: Api<Event> = Api::namespaced(client.kube().clone(), namespace);
    let told = timeout(DEADLINE, events.create(&PostParams::default(), &event(eviction, &outcome, &machine.facts.node_name))).await;
    // The eviction counts, whoever hears of it.
    if let Err(error) = told.map_err(anyhow::Error::from).and_then(|told| Ok(told?)) {
        tracing::info!("telling of pod {namespace}/{pod}: {error:#}");
    }
    Ok(outcome)
}

fn event(eviction: &Eviction, outcome: &Outcome, control_plane: &str) -> Event {
    let Eviction { namespace, pod, uid, .. } = eviction;
    let now = Time::from(k8s_openapi::jiff::Timestamp::now());
    Event {
        metadata: ObjectMeta { generate_name: Some(format!("{pod}.")), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        },
        reason: Some(outcome.reason(eviction).to_owned()),
        message: Some(outcome.text(eviction)),
        type_: Some("Normal".to_owned()),
        source: Some(EventSource { component: Some("corten-rebalancer".to_owned()), host: Some(control_plane.to_owned()) }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}
