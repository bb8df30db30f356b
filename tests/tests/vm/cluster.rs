//! Clusters of several machines on a segment of their own.

mod ipv6;
mod load_balancer;
mod outsider;
mod proxy;
mod rotation;
mod three;
mod wireguard;
mod workers;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::{Cluster, Options};
use tests::place;
use tests::until::until;

/// What was just made may take a moment until it is known everywhere.
const PATIENCE: Duration = Duration::from_secs(90);

/// So many control planes and workers, all of them healthy.
fn cluster(name: &str, control_planes: u32, workers: u32) -> anyhow::Result<Cluster> {
    cluster_with(name, control_planes, workers, &[])
}

/// The same with further arguments.
fn cluster_with(name: &str, control_planes: u32, workers: u32, further: &[&str]) -> anyhow::Result<Cluster> {
    let numbers = [control_planes.to_string(), workers.to_string()];
    let extra = ["--control-planes", &numbers[0], "--workers", &numbers[1]].into_iter().chain(further.iter().copied());
    let extra = extra.map(str::to_owned).collect();
    Cluster::create(&Options { name: name.to_owned(), extra, ..Options::default() })
}

/// Machine APIs of all machines, as `--nodes` takes them.
fn nodes(cluster: &Cluster) -> anyhow::Result<String> {
    let addresses: Vec<String> = cluster.machines()?.into_iter().map(|(_, address)| address).collect();
    Ok(addresses.join(","))
}

/// The sample's image on every machine, and a pod of it on every node; the pods' names, by node.
fn one_pod_a_node(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    let machines = cluster.machines()?;
    let archive = place::sample_archive();
    cluster.machinectl(&["image", "import", archive.to_str().context("path of the sample archive")?, "-n", &nodes(cluster)?])?;
    cluster.apply(MANIFEST)?;
    cluster.kubectl(&["rollout", "status", "daemonset/everywhere", "--timeout=240s"])?;
    let listed: Value = serde_json::from_str(&cluster.kubectl(&["get", "pods", "-l", "app=everywhere", "-o", "json"])?)?;
    let pods: Vec<Pod> = listed["items"].as_array().into_iter().flatten().filter_map(Pod::of).collect();
    ensure!(pods.len() == machines.len(), "{} pods on {} machines", pods.len(), machines.len());
    Ok(pods)
}

/// Every pod asks every one, its own included.
fn reach_each_other(cluster: &Cluster, pods: &[Pod]) -> anyhow::Result<()> {
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        let answer = until("an answer", PATIENCE, || from.get(cluster, &to.url()?))?;
        ensure!(answer.contains(&to.name), "{} asking {}: {answer}", from.node, to.node);
    }
    Ok(())
}

/// The sample's Service by its name, asked from every node: of the name server by UDP, and then itself.
fn service_by_name(cluster: &Cluster) -> anyhow::Result<()> {
    for pod in one_pod_a_node(cluster)? {
        let answer = until("an answer", PATIENCE, || pod.get(cluster, "http://everywhere.default.svc.cluster.local:80/"))?;
        ensure!(answer.contains("everywhere-"), "{}: {answer}", pod.node);
    }
    Ok(())
}

/// The sample's NodePort on every node, asked from every node.
fn node_port(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        let answer = until("an answer", PATIENCE, || from.get(cluster, &format!("http://{}:30080/", to.node_address)))?;
        ensure!(answer.contains("everywhere-"), "{} asking {}: {answer}", from.node, to.node);
    }
    Ok(())
}

/// One that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    name: String,
    node: String,
    address: String,
    node_address: String,
}

impl Pod {
    fn of(pod: &Value) -> Option<Pod> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).map(str::to_owned);
        Some(Pod {
            name: text("/metadata/name")?,
            node: text("/spec/nodeName")?,
            address: text("/status/podIP")?,
            node_address: text("/status/hostIP")?,
        })
    }

    /// Of the sample in it.
    fn url(&self) -> anyhow::Result<String> {
        let address: IpAddr = self.address.parse().with_context(|| format!("address of {self:?}"))?;
        Ok(format!("http://{}/", SocketAddr::new(address, 8080)))
    }

    /// What the sample in this pod gets from a URL.
    fn get(&self, cluster: &Cluster, url: &str) -> anyhow::Result<String> {
        cluster.kubectl(&["exec", &self.name, "--", "/hello", "get", url]).with_context(|| format!("{} asking {url}", self.node))
    }
}

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: everywhere }
spec:
  selector: { matchLabels: { app: everywhere } }
  template:
    metadata: { labels: { app: everywhere } }
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{ operator: Exists }]
      containers:
        - name: hello
          image: corten.dev/hello:v1
          imagePullPolicy: Never
          readinessProbe: { httpGet: { path: /readyz, port: 8080 }, periodSeconds: 2 }
---
apiVersion: v1
kind: Service
metadata: { name: everywhere }
spec:
  type: NodePort
  selector: { app: everywhere }
  ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]
"#;
