//! Answers of a small cluster, as clients get them.

use std::fmt::Write as _;

use api::v1::{Counters, NodeUsage, PodChanges, PodUsage, StreamMetricsResponse};
use http::Method;
use machine::Root;

use super::*;
use crate::init_client::InitClient;
use crate::metrics_api::pods::Pods;
use crate::node::Node;
use crate::usage::cluster::{ClusterUsage, STALE};

/// Two nodes of which one is silent, and pods: one with two containers, one that has just begun, one on the silent node, and one of which a node
/// tells that it is not on.
fn sources() -> Sources {
    let place = tempfile::tempdir().unwrap();
    let node = Node::new(Root::new(place.path()), InitClient::new(place.path().join("init")));
    for name in ["a", "b"] {
        let labels = BTreeMap::from([("zone".to_owned(), name.to_owned())]);
        node.store.put(name, &ClusterNode { labels, ..ClusterNode::default() });
    }
    let pod = |name: &str, node: &str, uid: &str| {
        let metadata = json!({ "namespace": "shop", "name": name, "uid": uid, "labels": { "app": name } });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "nodeName": node, "containers": [] } })).unwrap()
    };
    let pods = Pods::of(vec![pod("web", "a", "u1"), pod("new", "a", "u2"), pod("lost", "b", "u3"), pod("claimed", "b", "u4")]);
    Sources::new(node, ClusterUsage::default(), pods)
}

/// What the node that is not silent tells.
fn tell(cluster: &ClusterUsage, now: Instant) {
    let counters = |usec: u64| Some(Counters { cpu_usec: Some(usec), cpu_some_usec: Some(usec / 2), ..Counters::default() });
    for second in 0..3_u64 {
        let usage = |id: u64, uid: &str, container: &str, used: u64| PodUsage {
            id,
            pod_uid: uid.to_owned(),
            container: container.to_owned(),
            counters: counters(used * second),
            memory_used_bytes: Some(id << 20),
        };
        let mut changed = vec![usage(1, "u1", "", 300_000), usage(2, "u1", "app", 250_000), usage(3, "u1", "proxy", 50_000)];
        changed.push(usage(7, "u4", "app", 50_000));
        if second == 2 {
            changed.push(usage(4, "u2", "app", 50_000));
        }
        let answer = StreamMetricsResponse {
            at: Some(prost_types::Timestamp { seconds: 1_800_000_000 + second as i64, nanos: 0 }),
            node: Some(NodeUsage { counters: counters(1_500_000 * second), memory_used_bytes: Some(3 << 30), ..NodeUsage::default() }),
            pods: Some(PodChanges { changed, gone: Vec::new() }),
            ..StreamMetricsResponse::default()
        };
        cluster.add("a", &answer, second == 0, now);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_those_that_clients_of_kubernetes_expect() {
    let sources = sources();
    let nodes = Ask::of(&Method::GET, "/apis/metrics.k8s.io/v1beta1/nodes", "", "").unwrap();
    let code = || answer(&nodes, &sources, Instant::now()).map_err(|failure| failure.code).err();
    tell(&sources.cluster, Instant::now());
    assert_eq!(code(), Some(StatusCode::SERVICE_UNAVAILABLE), "of one node nothing is known yet");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(code(), Some(StatusCode::SERVICE_UNAVAILABLE), "all are silent");
    tell(&sources.cluster, Instant::now());
    let mut text = String::new();
    for (path, query) in [
        ("/apis", ""),
        ("/apis/metrics.k8s.io", ""),
        ("/apis/metrics.k8s.io/v1beta1", ""),
        ("/apis/custom.metrics.k8s.io/v1beta2", ""),
        ("/apis/metrics.k8s.io/v1beta1/nodes", ""),
        ("/apis/metrics.k8s.io/v1beta1/nodes", "labelSelector=zone!%3Da"),
        ("/apis/metrics.k8s.io/v1beta1/nodes/a", ""),
        ("/apis/metrics.k8s.io/v1beta1/nodes/b", ""),
        ("/apis/metrics.k8s.io/v1beta1/pods", ""),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web", ""),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/new", ""),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods", "labelSelector=app+in+(other)"),
        ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/pressure_cpu_some", ""),
        ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/pressure_io_full", ""),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/pressure_cpu_some", "labelSelector=app"),
    ] {
        let found = Ask::of(&Method::GET, path, query, "").map_err(Failure::from).and_then(|ask| answer(&ask, &sources, Instant::now()));
        let shown = found.unwrap_or_else(|failure| failure.status());
        writeln!(text, "GET {path} {query}\n{}\n", serde_json::to_string_pretty(&shown).unwrap()).unwrap();
    }
    let accepted = format!("{},application/json", discovery::EVERYTHING);
    let everything = Ask::of(&Method::GET, "/apis", "", &accepted).map(|ask| answer(&ask, &sources, Instant::now()));
    writeln!(text, "GET /apis, everything\n{}", serde_json::to_string_pretty(&everything.unwrap().unwrap()).unwrap()).unwrap();
    crate::golden::check("src/metrics_api/golden/answers.txt", &text);
    tokio::time::advance(STALE).await;
    assert_eq!(code(), Some(StatusCode::SERVICE_UNAVAILABLE), "all are silent again");
}
