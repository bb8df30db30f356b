//! As much of a Kubernetes API as draining a node needs, over plain HTTP: one node, its pods, and evictions.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The API server of a cluster with the node `cp-1`.
pub struct Kubernetes {
    pub address: SocketAddr,
    pub cluster: Arc<Mutex<Cluster>>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
pub struct Cluster {
    pub unschedulable: bool,
    annotations: BTreeMap<String, String>,
    /// How often each pod's eviction is refused.
    pub pods: BTreeMap<String, usize>,
    /// What was asked, one line a request that changes something.
    pub asked: Vec<String>,
}

impl Kubernetes {
    pub fn start() -> Kubernetes {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        let (address, router) = (listener.local_addr().expect("an address"), Router::new().fallback(answer).with_state(cluster.clone()));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Kubernetes { address, cluster, _runtime: runtime }
    }

    pub fn tell(&self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster.lock().expect("unpoisoned"));
    }

    pub fn asked(&self) -> Vec<String> {
        self.cluster.lock().expect("unpoisoned").asked.clone()
    }

    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
             clusters:\n- name: x\n  cluster: {{ server: 'http://{}' }}\n\
             users:\n- name: x\n  user: {{ token: t }}\n\
             contexts:\n- name: x\n  context: {{ cluster: x, user: x }}\n",
            self.address
        )
    }
}

async fn answer(State(cluster): State<Arc<Mutex<Cluster>>>, method: Method, uri: Uri, body: String) -> impl IntoResponse {
    let (status, value) = cluster.lock().expect("unpoisoned").answer(&method, &uri, &body);
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string())
}

impl Cluster {
    fn answer(&mut self, method: &Method, uri: &Uri, body: &str) -> (StatusCode, Value) {
        let steps: Vec<&str> = uri.path().split('/').skip(1).collect();
        match (method, steps.as_slice()) {
            (&Method::GET, ["api", "v1", "nodes", "cp-1"]) => (StatusCode::OK, self.node()),
            (&Method::PATCH, ["api", "v1", "nodes", "cp-1"]) => {
                let patch: Value = serde_json::from_str(body).expect("JSON");
                self.unschedulable = patch["spec"]["unschedulable"] == true;
                for (name, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
                    match value.as_str() {
                        Some(value) => self.annotations.insert(name.clone(), value.to_owned()),
                        None => self.annotations.remove(name),
                    };
                }
                self.asked.push((if self.unschedulable { "cordon" } else { "uncordon" }).to_owned());
                (StatusCode::OK, self.node())
            }
            (&Method::GET, ["api", "v1", "pods"]) => {
                assert!(uri.query().unwrap_or_default().contains("fieldSelector=spec.nodeName%3Dcp-1"), "{uri}");
                let pods: Vec<Value> = self.pods.keys().map(|name| pod(name)).collect();
                (StatusCode::OK, json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods }))
            }
            (&Method::POST, ["api", "v1", "namespaces", "shop", "pods", name, "eviction"]) => self.evict(name),
            _ => (StatusCode::NOT_FOUND, status(404, &format!("{method} {uri} is not there"))),
        }
    }

    fn node(&self) -> Value {
        let spec = if self.unschedulable { json!({ "unschedulable": true }) } else { json!({}) };
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "cp-1", "annotations": self.annotations }, "spec": spec })
    }

    fn evict(&mut self, name: &str) -> (StatusCode, Value) {
        let Some(refusals) = self.pods.get_mut(name) else { return (StatusCode::NOT_FOUND, status(404, "no such pod")) };
        if *refusals > 0 {
            *refusals -= 1;
            self.asked.push(format!("evict {name}: refused"));
            return (StatusCode::TOO_MANY_REQUESTS, status(429, "its budget needs 1 healthy pod"));
        }
        self.pods.remove(name);
        self.asked.push(format!("evict {name}"));
        (StatusCode::CREATED, json!({ "apiVersion": "v1", "kind": "Status", "status": "Success", "code": 201 }))
    }
}

/// A Deployment's; one whose name begins with `agent` is a DaemonSet's.
fn pod(name: &str) -> Value {
    let kind = if name.starts_with("agent") { "DaemonSet" } else { "ReplicaSet" };
    let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "u0", "controller": true });
    json!({ "metadata": { "name": name, "namespace": "shop", "uid": name, "ownerReferences": [owner] }, "status": { "phase": "Running" } })
}

fn status(code: u16, message: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "" })
}
