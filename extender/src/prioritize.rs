//! What the scheduler asks, as its extender (k8s.io/kube-scheduler, extender/v1): `POST /prioritize` with a pod and the names of the nodes that it
//! fits on. It answers with a score for each. The scheduler goes on without an answer, and takes none that is late.

use std::borrow::Cow;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::{Container, Pod};
use metrics::score::{CPUS_OF_NO_REQUEST, Pending, likely};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Scores, quantity};

/// A pod with this annotation, of value `ignore`, goes where the scheduler's other rules send it.
pub const OPT_OUT: &str = "corten.dev/pressure";

/// What the scheduler itself counts for a container that requests no memory (pkg/scheduler/util, DefaultMemoryRequest).
const LEAST_MEMORY_BYTES: f64 = 200.0 * 1024.0 * 1024.0;

#[derive(Debug, Deserialize)]
struct Arguments<'a> {
    #[serde(rename = "Pod", alias = "pod")]
    pod: Option<Pod>,
    #[serde(borrow, rename = "NodeNames", alias = "nodenames", alias = "nodeNames")]
    node_names: Option<Vec<Name<'a>>>,
}

/// A node's name, a part of the question wherever JSON has it without escapes: thousands come with each.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Name<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct HostPriority<'a> {
    #[serde(rename = "Host")]
    host: &'a str,
    #[serde(rename = "Score")]
    score: u8,
}

/// A list of 5,000 names and a large pod are less than the 2 MiB that axum takes in.
pub fn router(scores: Scores) -> Router {
    Router::new().route("/prioritize", post(prioritize)).with_state(scores)
}

async fn prioritize(State(scores): State<Scores>, body: Bytes) -> Response<String> {
    let answer = |status, text: String| {
        let mut response = Response::new(text);
        *response.status_mut() = status;
        response
    };
    let arguments: Arguments = match serde_json::from_slice(&body) {
        Ok(arguments) => arguments,
        Err(error) => return answer(StatusCode::BAD_REQUEST, format!("no ExtenderArgs: {error}")),
    };
    let Some(names) = arguments.node_names else {
        let text = "NodeNames: none; expected the scheduler to be configured with nodeCacheCapable: true".to_owned();
        return answer(StatusCode::BAD_REQUEST, text);
    };
    let priorities = decide(&scores, &arguments.pod.unwrap_or_default(), &names, Instant::now());
    match serde_json::to_string(&priorities) {
        Ok(text) => answer(StatusCode::OK, text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn decide<'a>(scores: &Scores, pod: &Pod, nodes: &'a [Name<'a>], now: Instant) -> Vec<HostPriority<'a>> {
    let opted_out = pod.metadata.annotations.as_ref().and_then(|all| all.get(OPT_OUT)).is_some_and(|value| value == "ignore");
    let requests = requests(pod);
    let compared = if opted_out { vec![0; nodes.len()] } else { scores.compare(nodes, requests, now) };
    if let Some(uid) = &pod.metadata.uid {
        // Where the scores do not decide, any of the nodes may get it.
        scores.expect(uid, requests, &likely(nodes, &compared), now);
    }
    nodes.iter().zip(compared).map(|(node, score)| HostPriority { host: node.as_ref(), score }).collect()
}

/// Of all containers together, as the scheduler adds them up but for init containers, which end. Those that ask for no CPU count as one together.
fn requests(pod: &Pod) -> Pending {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let (asked, asks_for_none) = containers.fold((Pending::default(), false), |(sum, none), container| {
        let cpus = request(container, "cpu");
        let memory_bytes = request(container, "memory").unwrap_or(LEAST_MEMORY_BYTES);
        (sum.and(Pending { cpus: cpus.unwrap_or(0.0), memory_bytes }), none || cpus.is_none())
    });
    Pending { cpus: asked.cpus + if asks_for_none { CPUS_OF_NO_REQUEST } else { 0.0 }, ..asked }
}

fn request(container: &Container, name: &str) -> Option<f64> {
    let quantity = container.resources.as_ref()?.requests.as_ref()?.get(name)?;
    quantity::parse(&quantity.0).map(|value| value.max(0.0))
}

#[cfg(test)]
mod tests {
    use metrics::score::Load;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    fn scores() -> Scores {
        let scores = Scores::default();
        let idle = Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() };
        scores.add("idle", idle, Instant::now());
        scores.add("pressed", Load { cpus_used: 4.0, cpu_some: 0.9, ..idle }, Instant::now());
        scores
    }

    async fn ask(scores: &Scores, arguments: Value) -> (StatusCode, String) {
        let request = http::Request::post("/prioritize").body(axum::body::Body::from(arguments.to_string())).unwrap();
        let response = router(scores.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn pod(uid: &str, annotations: Value) -> Value {
        json!({ "metadata": { "name": "a", "uid": uid, "annotations": annotations }, "spec": { "containers": [{ "name": "a" }] } })
    }

    #[tokio::test]
    async fn as_the_scheduler_asks_and_reads() {
        let (status, text) = ask(&scores(), json!({ "Pod": pod("1", json!({})), "Nodes": null, "NodeNames": ["pressed", "idle"] })).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(text, r#"[{"Host":"pressed","Score":0},{"Host":"idle","Score":10}]"#);
    }

    #[tokio::test]
    async fn a_pod_may_opt_out_and_a_node_that_nobody_knows_is_in_the_middle() {
        let opted_out = json!({ "Pod": pod("1", json!({ "corten.dev/pressure": "ignore" })), "NodeNames": ["pressed", "idle"] });
        let (_, text) = ask(&scores(), opted_out).await;
        assert_eq!(text, r#"[{"Host":"pressed","Score":0},{"Host":"idle","Score":0}]"#);
        let (_, text) = ask(&scores(), json!({ "Pod": pod("1", json!({})), "NodeNames": ["stranger"] })).await;
        assert_eq!(text, r#"[{"Host":"stranger","Score":10}]"#, "nobody is better than the only one");
        let (_, text) = ask(&scores(), json!({ "Pod": pod("2", json!({})), "NodeNames": ["pressed", "stranger", "idle"] })).await;
        assert_eq!(text, r#"[{"Host":"pressed","Score":0},{"Host":"stranger","Score":10},{"Host":"idle","Score":10}]"#);
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        for arguments in [json!([]), json!({ "Pod": pod("1", json!({})), "Nodes": { "items": [] } })] {
            let (status, text) = ask(&scores(), arguments).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        }
    }

    #[test]
    fn requests_are_added_up_and_what_asks_for_nothing_counts_a_little() {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "1500m", "memory": "1Gi" } } },
            { "name": "b", "resources": { "requests": { "cpu": "2" } } },
            { "name": "c", "resources": { "requests": { "memory": "1Gi" } } },
            { "name": "d", "resources": { "requests": { "memory": "1Gi" } } },
        ] } }))
        .unwrap();
        let requests = requests(&pod);
        assert_eq!((requests.cpus, requests.memory_bytes), (3.5 + CPUS_OF_NO_REQUEST, 3.0 * 1_073_741_824.0 + LEAST_MEMORY_BYTES));
    }
}
