//! A real API server's aggregator asks, for its clients and for real autoscalers; what pods use is read from a tree of plain files. Needs root and
//! what `make components` builds; it fails without them.

mod vertical;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::client::Client;
use controlplane::metrics_api::Group;
use controlplane::pki::{CertificateId, CertificateRequest, Usage as KeyUsage};
use controlplane::ports::METRICS_API_PORT;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use metrics::names::Container;
use metrics::{Names, Place};
use serde_json::{Value, json};

use super::run;
use crate::controllers::cluster_node;
use crate::controllers::metrics_api::MetricsApis;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::metrics_api::MetricsApi;
use crate::reviews::Reviews;
use crate::scores::{self, Listeners};
use crate::store::Store;
use crate::usage::Usage;

const NODE: &str = "cp-1";
const NODE_ADDRESS: &str = "192.0.2.20";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

/// The files of a pod's only container, and its own.
struct Files {
    pod: PathBuf,
    container: PathBuf,
}

/// Of a container; any 64 digits do.
fn id() -> String {
    "ab".repeat(32)
}

impl Files {
    fn new(cgroups: &Path, uid: &str) -> Files {
        let pod = cgroups.join(format!("kubepods/burstable/pod{uid}"));
        Files { container: pod.join(id()), pod }
    }

    fn write(&self, cpu_usec: u64, memory: u64, waited_usec: u64) -> Result<()> {
        fs::create_dir_all(&self.container)?;
        for directory in [&self.pod, &self.container] {
            let line = |total: u64| format!("avg10=0.00 avg60=0.00 avg300=0.00 total={total}");
            for (name, text) in [
                ("cpu.stat", format!("usage_usec {cpu_usec}\nuser_usec 0\nsystem_usec 0\n")),
                ("memory.stat", "anon 0\nfile 0\ninactive_file 0\n".to_owned()),
                ("memory.current", format!("{memory}\n")),
                ("cpu.pressure", format!("some {}\nfull {}\n", line(waited_usec), line(0))),
            ] {
                // In place: the files stay open.
                let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(name))?;
                std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0)?;
            }
        }
        Ok(())
    }
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&client.get(path).await?)?)
}

/// The code of an answer that is none.
async fn refused(client: &kube::Client, request: http::Request<Vec<u8>>) -> Result<u16> {
    match client.request_text(request).await {
        Ok(answer) => anyhow::bail!("it was answered: {answer}"),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error.into()),
    }
}

/// A pod that its Deployment made, bound and running as its kubelet would have it.
async fn running_pod(admin: &Client, app: &str) -> Result<(String, String)> {
    let (client, params) = (admin.kube().clone(), PostParams::default());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until("pods have an account", || async { accounts.get("default").await.map(drop).context("no account") }).await?;
    let container = json!({ "name": "app", "image": "none", "resources": { "requests": { "cpu": "100m" } } });
    let deployment = json!({ "metadata": { "name": app }, "spec": {
        "selector": { "matchLabels": { "app": app } },
        "template": { "metadata": { "labels": { "app": app } }, "spec": { "containers": [container] } },
    } });
    Api::<Deployment>::namespaced(client.clone(), "default").create(&params, &serde_json::from_value(deployment)?).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = until("the Deployment has a pod", || async {
        pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items.into_iter().next().context("none yet")
    })
    .await?;
    let (name, uid) = (pod.metadata.name.context("a name")?, pod.metadata.uid.context("a uid")?);
    let binding =
        json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": { "kind": "Node", "name": NODE } });
    let request = http::Request::post(format!("/api/v1/namespaces/default/pods/{name}/binding"));
    client.request_text(request.header("content-type", "application/json").body(serde_json::to_vec(&binding)?)?).await?;
    let long_ago = "2026-01-01T00:00:00Z";
    let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": long_ago });
    let status = json!({ "status": { "phase": "Running", "startTime": long_ago, "conditions": [condition] } });
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok((name, uid))
}

/// What an agent runs for these APIs. Of pods it reads the one `uid`, from the files that are given back with what it has read.
fn run_agent(cluster: &RealCluster, uid: &str) -> Result<(Files, Usage)> {
    let node = &cluster.node;
    let cgroups = node.root.cgroups();
    fs::create_dir_all(&cgroups)?;
    std::os::unix::fs::symlink("/proc", node.root.proc())?;
    let files = Files::new(&cgroups, uid);
    files.write(0, 64 << 20, 0)?;
    let mut names = Names::default();
    names.containers.insert(id(), Container { name: "app".to_owned(), image: "none".to_owned(), is_sandbox: false });
    let usage = Usage::reading(&node.root, names);
    let listeners = Listeners::default();
    tokio::spawn(cluster_node::follow(node.clone()));
    tokio::spawn(scores::follow(node.clone(), usage.clone(), listeners.clone()));
    tokio::spawn(run(node.clone(), listeners, Reviews::new(node.clone())));
    cluster.spawn(MetricsApis::default());
    Ok((files, usage))
}

/// A pod that works, and waits, half of the time; what memory it has depends on how long ago it began.
async fn half_a_cpu(files: Files, began: Instant, memory: fn(Duration) -> u64) {
    loop {
        let usec = began.elapsed().as_micros() as u64 / 2;
        files.write(usec, memory(began.elapsed()), usec).expect("written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn kubectl_top_and_autoscalers_get_what_they_ask_for() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let admin = cluster.admin()?;
            cluster.register(&admin, NODE, NODE_ADDRESS, json!({ "metadata": { "labels": { "zone": "z" } } })).await?;
            let (pod, uid) = running_pod(&admin, "web").await?;
            let began = Instant::now();
            let (files, usage) = run_agent(cluster, &uid)?;
            tokio::spawn(half_a_cpu(files, began, |elapsed| (64 << 20) + (elapsed.as_millis() as u64) * 4096));

            are_available(&admin).await?;
            eprintln!("both APIs are available {:?} after the agent began", began.elapsed());
            what_top_asks_for(&admin, &pod).await?;
            how_fresh(&admin, &pod, began, usage).await?;
            strangers_get_nothing(cluster).await?;
            an_autoscaler_scales(&admin).await?;
            another_owner_is_left_alone(&admin, &cluster.node.store).await
        },
    );
}

async fn are_available(admin: &Client) -> Result<()> {
    let all: Api<APIService> = Api::all(admin.kube().clone());
    for group in Group::ALL {
        until("the API is available", || async {
            let status = all.get(&group.object_name()).await?.status.context("nobody has looked yet")?;
            let available = status.conditions.iter().flatten().any(|one| one.type_ == "Available" && one.status == "True");
            ensure!(available, "{status:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn what_top_asks_for(admin: &Client, pod: &str) -> Result<()> {
    let nodes = get(admin, "/apis/metrics.k8s.io/v1beta1/nodes?labelSelector=zone%3Dz").await?;
    ensure!(nodes["items"][0]["metadata"]["name"] == NODE && nodes["items"][0]["usage"]["cpu"].is_string(), "{nodes}");
    let pods = get(admin, &format!("{PODS}?labelSelector=app%3Dweb")).await?;
    let found = &pods["items"][0];
    ensure!(found["metadata"]["name"] == *pod && found["containers"][0]["name"] == "app", "{pods}");
    half_a_cpu_is_told(admin, pod).await?;
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/pressure_cpu_some?labelSelector=app%3Dweb";
    let pressure = get(admin, path).await?;
    let value = pressure["items"][0]["value"].as_str().and_then(extender::quantity::parse).context("no pressure")?;
    ensure!((0.4..0.6).contains(&value), "{pressure}");
    Ok(())
}

async fn half_a_cpu_is_told(admin: &Client, pod: &str) -> Result<()> {
    until("the average is half of a CPU", || async {
        let pod = get(admin, &format!("{PODS}/{pod}")).await?;
        let cpu = pod["containers"][0]["usage"]["cpu"].as_str().and_then(extender::quantity::parse).context("no CPU")?;
        ensure!((0.4..0.6).contains(&cpu), "{pod}");
        Ok(())
    })
    .await
}

/// What the files said when they were read, as an answer has it, and when that was there to be told.
type Sweep = (Duration, Instant);

/// The files tell at each moment how long the test has run, so that each answer tells how old what it tells is.
async fn how_fresh(admin: &Client, pod: &str, began: Instant, mut usage: Usage) -> Result<()> {
    let said = |memory: u64| Duration::from_millis((memory - (64 << 20)) / 4096);
    let sweeps: Arc<Mutex<Vec<Sweep>>> = Arc::default();
    let swept = sweeps.clone();
    let following = tokio::spawn(async move {
        // The newest is of whichever age.
        usage.changed().await;
        while usage.changed().await {
            let (snapshot, _) = usage.newest();
            let container = snapshot.groups.iter().find(|reading| matches!(reading.place, Place::Container(..)));
            let memory = container.and_then(|reading| reading.sample.memory).map(|memory| memory.working_set());
            swept.lock().unwrap().extend(memory.map(|memory| (said(memory), Instant::now())));
        }
    });
    let (mut ages, mut ways) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let asked = Instant::now();
        let found = get(admin, &format!("{PODS}/{pod}")).await?;
        let memory = found["containers"][0]["usage"]["memory"].as_str().and_then(extender::quantity::parse).context("no memory")?;
        ages.push(began.elapsed().saturating_sub(said(memory as u64)));
        ways.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    following.abort();
    let sweeps = sweeps.lock().unwrap().clone();
    let told = sweeps.iter().map(|(read, told)| told.duration_since(began).saturating_sub(*read)).collect();
    let pace = sweeps.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    let median = tells("what an answer tells is", ages);
    tells("of which: it is told by the node after", told);
    tells("the next is told after", pace);
    tells("a request takes", ways);
    // A sweep and a half, where the machine has time for anything at all.
    ensure!(median < Duration::from_secs(2), "{median:?}");
    Ok(())
}

/// The median, and the rest for whoever reads.
fn tells(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    eprintln!("{what} {:?} (median), {:?} (99 %), {:?} at most", at(50), at(99), at(100));
    at(50)
}

async fn strangers_get_nothing(cluster: &RealCluster) -> Result<()> {
    let nobody = CertificateRequest {
        common_name: "nobody".to_owned(),
        organization: None,
        sans: Vec::new(),
        usage: KeyUsage::Client,
        lifetime: Duration::from_secs(600),
    };
    let asked = || http::Request::get(PODS);
    let code = refused(cluster.in_the_name_of(&nobody)?.kube(), asked().body(Vec::new())?).await?;
    ensure!(code == 403, "through the API server: {code}");
    // Whoever gets past the API server's own check is asked for here again.
    let server = format!("https://{NODE_ADDRESS}:{METRICS_API_PORT}");
    let aggregator = cluster.at(&server, CertificateId::FrontProxyClient)?;
    for (user, group, path, code) in [
        (Some("nobody"), "system:authenticated", PODS, Some(403)),
        (Some("nobody"), "system:authenticated", "/apis/metrics.k8s.io/v1beta1", None),
        (Some("corten"), "system:masters", PODS, None),
        (None, "system:masters", PODS, Some(401)),
    ] {
        let mut request = http::Request::get(path).header("X-Remote-Group", group);
        if let Some(user) = user {
            request = request.header("X-Remote-User", user);
        }
        let request = request.body(Vec::new())?;
        match code {
            Some(code) => ensure!(refused(aggregator.kube(), request).await? == code, "{user:?} {path}"),
            None => drop(aggregator.kube().request_text(request).await.with_context(|| format!("{user:?} {path}"))?),
        }
    }
    let agent = cluster.at(&server, CertificateId::Agent)?;
    let request = asked().header("X-Remote-User", "me").header("X-Remote-Group", "system:masters").body(Vec::new())?;
    let answer = agent.kube().request_text(request).await;
    ensure!(matches!(answer, Err(kube::Error::HyperError(_) | kube::Error::Service(_))), "{answer:?}");
    Ok(())
}

/// By CPU and by pressure, each of which asks for more than there are.
async fn an_autoscaler_scales(admin: &Client) -> Result<()> {
    let client = admin.kube().clone();
    let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 250 } } });
    let pressure = json!({ "type": "Pods", "pods": {
        "metric": { "name": "pressure_cpu_some" }, "target": { "type": "AverageValue", "averageValue": "125m" },
    } });
    let scaler = json!({ "metadata": { "name": "web" }, "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        "minReplicas": 1, "maxReplicas": 9, "metrics": [cpu, pressure],
    } });
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "default");
    scalers.create(&PostParams::default(), &serde_json::from_value(scaler)?).await?;
    until("the autoscaler has both metrics", || async {
        let status = scalers.get("web").await?.status.context("no status")?;
        let current = status.current_metrics.clone().unwrap_or_default();
        let cpu = current.iter().filter_map(|metric| metric.resource.as_ref()?.current.average_utilization).next();
        let pressure = current.iter().filter_map(|metric| metric.pods.as_ref()?.current.average_value.clone()).next();
        let (cpu, pressure) = (cpu.with_context(|| format!("{status:?}"))?, pressure.with_context(|| format!("{status:?}"))?);
        eprintln!("the autoscaler sees {cpu} % of the request, and {} of the time under pressure", pressure.0);
        Ok(())
    })
    .await?;
    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    until("it scales", || async {
        let replicas = deployments.get("web").await?.spec.replicas;
        ensure!(replicas == Some(4), "{replicas:?} replicas, {:?}", scalers.get("web").await?.status);
        Ok(())
    })
    .await
}

async fn another_owner_is_left_alone(admin: &Client, store: &Store) -> Result<()> {
    let all: Api<APIService> = Api::all(admin.kube().clone());
    let name = Group::Resource.object_name();
    let theirs = json!({ "spec": { "service": { "name": "metrics-server" }, "caBundle": null, "insecureSkipTLSVerify": true } });
    all.patch(&name, &PatchParams::default(), &Patch::Merge(theirs)).await?;
    let served_by = |who: &'static str| {
        until("it is told who serves it", move || async move {
            let told = store.get::<MetricsApi>(Group::Resource.name()).context("not told")?;
            ensure!(told.served_by == who, "{told:?}");
            Ok(())
        })
    };
    served_by("kube-system/metrics-server").await?;
    let service = all.get(&name).await?.spec.and_then(|spec| spec.service).and_then(|service| service.name);
    ensure!(service.as_deref() == Some("metrics-server"), "{service:?}");
    all.delete(&name, &DeleteParams::default()).await?;
    served_by("corten").await?;
    are_available(admin).await
}
