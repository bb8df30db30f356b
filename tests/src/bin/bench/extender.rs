//! How long kube-scheduler waits for scores: the agent's own answers, over HTTP on loopback, to the questions that a scheduler asks. The scheduler
//! places one pod after the other, so what a pod takes limits how many it places.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::extender::{Scores, router};
use ::metrics::score::Load;
use anyhow::{Context, ensure};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::http::Client;
use crate::samples::{Samples, quantile};

const WARM: usize = 200;
const POSTS: usize = 2000;

struct Case {
    nodes: usize,
    name: &'static str,
    figure: fn(&[f64]) -> f64,
    goal: f64,
}

/// Goals in microseconds; 500 pods a second are 2 ms each.
const CASES: [Case; 2] = [
    Case { nodes: 500, name: "scores for one pod, 500 nodes, p99", figure: |sorted| quantile(sorted, 0.99), goal: 2000.0 },
    Case {
        nodes: 5000,
        name: "scores for one pod, 5,000 nodes, mean",
        figure: |sorted| sorted.iter().sum::<f64>() / sorted.len() as f64,
        goal: 2000.0,
    },
];

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for case in CASES {
        let mut samples = Samples::default();
        for _ in 0..rounds {
            let mut took = run(case.nodes)?;
            took.sort_by(f64::total_cmp);
            samples.push((case.figure)(&took));
            let mean = took.iter().sum::<f64>() / took.len() as f64;
            outcome.notes.push(format!(
                "{} nodes: p50 {:.0} us, p99 {:.0} us, {:.0} pods/s",
                case.nodes,
                quantile(&took, 0.5),
                quantile(&took, 0.99),
                1e6 / mean
            ));
        }
        outcome.figures.push(Figure::alone(case.name, Unit::Microseconds, samples, Goal::AtMost(case.goal)));
    }
    outcome.notes.push("meanwhile every node tells of its load once a second, and where each pod went is heard".to_owned());
    Ok(outcome)
}

/// Microseconds of each question.
fn run(nodes: usize) -> anyhow::Result<Vec<f64>> {
    let names: Vec<String> = (0..nodes).map(|number| format!("worker-{number:04}.cluster.example")).collect();
    let scores = Scores::default();
    tell(&scores, &names, 0);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 1;
            while !ended.load(Ordering::Relaxed) {
                tell(&scores, &names, turn);
                turn += 1;
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        let took = ask(&scores, &names);
        ended.store(true, Ordering::Relaxed);
        took
    })
}

fn tell(scores: &Scores, names: &[String], turn: usize) {
    for (number, name) in names.iter().enumerate() {
        let share = ((number * 7919 + turn * 31) % 100) as f64 / 100.0;
        let load = Load {
            cpus: 16.0,
            cpus_used: 16.0 * share,
            memory_bytes: 64e9,
            memory_used_bytes: 40e9 * share,
            cpu_some: share * share,
            ..Load::default()
        };
        scores.add(name, load, Instant::now().into());
    }
}

fn ask(scores: &Scores, names: &[String]) -> anyhow::Result<Vec<f64>> {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = server.block_on(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).context("listening")?;
    let address = listener.local_addr()?;
    server.spawn(axum::serve(listener, router(scores.clone())).into_future());
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = client.block_on(async {
        let mut client = Client::connect(address).await?;
        let mut took = Vec::with_capacity(POSTS);
        for number in 0..WARM + POSTS {
            let uid = format!("{number:08x}-9b1c-4c39-8a52-3a7e4a5d9d10");
            let question = json!({ "Pod": pod(&uid), "Nodes": null, "NodeNames": names }).to_string();
            let (answer, lasted) = client.ask("POST", "/prioritize", Bytes::from(question)).await?;
            let answer: Vec<Value> = serde_json::from_slice(&answer)?;
            ensure!(answer.len() == names.len(), "{} scores for {} nodes", answer.len(), names.len());
            let best = answer.iter().max_by_key(|one| one["Score"].as_i64()).and_then(|one| one["Host"].as_str()).context("no best")?;
            scores.bound(&uid, best, Instant::now().into());
            if number >= WARM {
                took.push(lasted.as_secs_f64() * 1e6);
            }
        }
        Ok(took)
    });
    server.shutdown_background();
    took
}

/// As large as pods of Deployments are once the API server has filled them in: some 3 kB.
fn pod(uid: &str) -> Value {
    let container = |name: &str| {
        let variables: Vec<Value> =
            (0..10).map(|number| json!({ "name": format!("SETTING_{number}"), "value": "a value of some length" })).collect();
        json!({
            "name": name, "image": "registry.example/shop/cart:1.2.3", "env": variables, "imagePullPolicy": "IfNotPresent",
            "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
            "resources": { "requests": { "cpu": "250m", "memory": "256Mi" }, "limits": { "memory": "512Mi" } },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": "http", "scheme": "HTTP" }, "periodSeconds": 10, "timeoutSeconds": 1 },
            "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
        })
    };
    json!({
        "metadata": {
            "name": format!("cart-7d9c6bcb5d-{}", &uid[..8]), "namespace": "shop", "uid": uid,
            "labels": { "app": "cart", "pod-template-hash": "7d9c6bcb5d", "app.kubernetes.io/part-of": "shop" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d9c6bcb5d", "uid": uid, "controller": true }],
        },
        "spec": {
            "containers": [container("cart"), container("proxy")], "serviceAccountName": "cart", "schedulerName": "default-scheduler",
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
            "volumes": [{ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } }] } }],
        },
        "status": { "phase": "Pending", "qosClass": "Burstable" },
    })
}
