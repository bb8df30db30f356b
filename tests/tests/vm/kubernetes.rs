//! What people do with a Kubernetes node, done to ours.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use crate::checks::Check;

/// In a namespace of their own, so that deleting it tests that, too.
/// For what takes seconds on a quick host: emulated processors of a busy one need minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The config that the claims below need.
pub const PATCH: &str = r#"
machine:
  hostname: cp-1
  kubelet:
    labels: { example.org/rack: r1 }
    config: { readOnlyPort: 10255, maxPods: 50 }
  kernel:
    sysctls: { net.core.somaxconn: "4096" }
  staticPods:
    - apiVersion: v1
      kind: Pod
      metadata: { name: web, namespace: default }
      spec:
        hostNetwork: true
        containers:
          - { name: web, image: corten.dev/hello:v1, imagePullPolicy: Never }
"#;

pub const CHECKS: &[Check] = &[
    ("the kubelet answers /healthz, /pods and /metrics/cadvisor", kubelet_endpoints),
    ("the read-only port is open when the config opens it", read_only_port),
    ("config reaches the node: name, labels, maxPods", config_reaches_the_node),
    ("kubectl get cs", component_statuses),
    ("a static pod from the config runs", static_pod),
];

/// What works on pods.
pub const WORKLOAD_CHECKS: &[Check] = &[
    ("kubectl logs, exec, port-forward and proxy", logs_exec_forward_proxy),
    ("DNS answers by name", dns),
    ("liveness, readiness and startup probes act", probes),
    ("a Deployment rolls out and back", rolling_update),
    ("a StatefulSet and a DaemonSet run", stateful_and_daemon_sets),
    ("a Job and a CronJob run", jobs),
    ("a ResourceQuota refuses what exceeds it", quota),
    ("a namespace is deleted with all that is in it", namespace_deletion),
];

fn json(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Value> {
    let text = cluster.kubectl(&[arguments, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("kubectl {arguments:?} printed {text:?}"))
}

fn kubelet_endpoints(cluster: &Cluster) -> anyhow::Result<()> {
    let ask = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/cp-1/proxy{path}")]);
    ensure!(ask("/healthz")? == "ok");
    let pods: Value = serde_json::from_str(&ask("/pods")?)?;
    ensure!(pods["items"].as_array().is_some_and(|pods| !pods.is_empty()), "/pods lists nothing: {pods}");
    let metrics = ask("/metrics/cadvisor")?;
    ensure!(metrics.contains("container_memory_working_set_bytes{"), "no container metrics in {} bytes", metrics.len());
    Ok(())
}

fn read_only_port(cluster: &Cluster) -> anyhow::Result<()> {
    let ip = node_ip(cluster)?;
    let answer = in_sample(cluster, &["/hello", "get", &format!("http://{ip}:10255/pods")])?;
    ensure!(answer.contains("\"kind\":\"PodList\""), "answered {answer:?}");
    Ok(())
}

fn config_reaches_the_node(cluster: &Cluster) -> anyhow::Result<()> {
    let node = json(cluster, &["get", "node", "cp-1"])?;
    ensure!(node["metadata"]["labels"]["example.org/rack"] == "r1", "labels: {}", node["metadata"]["labels"]);
    ensure!(node["status"]["capacity"]["pods"] == "50", "capacity: {}", node["status"]["capacity"]);
    ensure!(node["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.1", "{}", node["status"]["nodeInfo"]);
    Ok(())
}

fn component_statuses(cluster: &Cluster) -> anyhow::Result<()> {
    let statuses = json(cluster, &["get", "cs"])?;
    for status in statuses["items"].as_array().context("items")? {
        ensure!(status["conditions"][0]["status"] == "True", "{status}");
    }
    Ok(())
}

fn static_pod(cluster: &Cluster) -> anyhow::Result<()> {
    until("static pod web-cp-1 Ready", PATIENCE, || {
        cluster.kubectl(&["wait", "pod/web-cp-1", "--for=condition=Ready", "--timeout=5s"]).map(drop)
    })
}

fn logs_exec_forward_proxy(cluster: &Cluster) -> anyhow::Result<()> {
    let logs = cluster.kubectl(&["logs", "deployment/hello"])?;
    ensure!(logs.contains("listening on"), "logs: {logs:?}");
    let answer = in_sample(cluster, &["/hello", "get", "http://127.0.0.1:8080/"])?;
    ensure!(answer.starts_with("hello from hello-"), "exec: {answer:?}");

    let forward = Background::start(cluster, &["port-forward", "deployment/hello", ":8080"])?;
    // More than once: each connection is a stream of its own.
    for _ in 0..3 {
        let answer = http(forward.port, "/").context("port-forward")?;
        ensure!(answer.contains("hello from hello-"), "port-forward: answered {answer:?}");
    }
    let proxy = Background::start(cluster, &["proxy", "--port=0"])?;
    let answer = http(proxy.port, "/api/v1/nodes/cp-1")?;
    let node: Value = serde_json::from_str(answer.split_once("\r\n\r\n").context("no HTTP answer")?.1)
        .with_context(|| format!("proxy answered {answer:?}"))?;
    ensure!(node["kind"] == "Node", "proxy answered {node}");
    Ok(())
}

fn dns(cluster: &Cluster) -> anyhow::Result<()> {
    let address = cluster.kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    let name = "hello.default.svc.cluster.local";
    let answer = until("CoreDNS", PATIENCE, || in_sample(cluster, &["/hello", "resolve", name]))?;
    ensure!(answer.trim() == address, "{name} is {answer:?}, the Service {address}");
    ensure!(in_sample(cluster, &["/hello", "get", &format!("http://{name}:80/")])?.starts_with("hello from"));
    Ok(())
}

fn probes(cluster: &Cluster) -> anyhow::Result<()> {
    let probe = |path: &str, more: &str| format!("{{ httpGet: {{ path: {path}, port: 8080 }}, periodSeconds: 1{more} }}");
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: probed }}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: hello
      image: corten.dev/hello:v1
      imagePullPolicy: Never
      env: [{{ name: STARTUP_SECONDS, value: "3" }}]
      startupProbe: {}
      livenessProbe: {}
      readinessProbe: {}
"#,
        probe("/healthz", ", failureThreshold: 60"),
        probe("/healthz", ", failureThreshold: 1"),
        probe("/readyz", ""),
    ))?;
    let ready = |want: bool| {
        until(&format!("pod probed ready={want}"), PATIENCE, || {
            let status = json(cluster, &["get", "pod", "probed"])?["status"]["containerStatuses"][0].clone();
            ensure!(status["ready"] == want, "{status}");
            Ok(status["restartCount"].as_u64().unwrap_or_default())
        })
    };
    // Without the startup probe, the liveness probe would have killed it within its first three seconds.
    ensure!(ready(true)? == 0, "restarted while it was starting");
    let turn = |switch: &str| cluster.kubectl(&["exec", "probed", "--", "/hello", "get", &format!("http://127.0.0.1:8080/{switch}")]);
    turn("unready")?;
    ready(false)?;
    turn("ready")?;
    ready(true)?;
    turn("fail")?;
    until("a restart by the liveness probe", PATIENCE, || {
        let restarts = json(cluster, &["get", "pod", "probed"])?["status"]["containerStatuses"][0]["restartCount"].clone();
        ensure!(restarts == 1, "{restarts} restarts");
        Ok(())
    })?;
    cluster.kubectl(&["delete", "pod", "probed", "--wait=false"]).map(drop)
}

fn rolling_update(cluster: &Cluster) -> anyhow::Result<()> {
    let rolled_out = || cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=300s"]);
    let answers = |greeting: &str| {
        let address = cluster.kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
        until(&format!("the greeting {greeting}"), PATIENCE, || {
            let answer = in_sample(cluster, &["/hello", "get", &format!("http://{address}:80/")])?;
            ensure!(answer.starts_with(greeting), "answered {answer:?}");
            Ok(())
        })
    };
    cluster.kubectl(&["set", "env", "deployment/hello", "GREETING=good-day"])?;
    rolled_out()?;
    answers("good-day from")?;
    cluster.kubectl(&["rollout", "undo", "deployment/hello"])?;
    rolled_out()?;
    answers("hello from")
}

const WORKLOADS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: work }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: ordered, namespace: work }
spec:
  serviceName: ordered
  replicas: 2
  selector: { matchLabels: { app: ordered } }
  template:
    metadata: { labels: { app: ordered } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: hello, image: corten.dev/hello:v1, imagePullPolicy: Never }]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: everywhere, namespace: work }
spec:
  selector: { matchLabels: { app: everywhere } }
  template:
    metadata: { labels: { app: everywhere } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: hello, image: corten.dev/hello:v1, imagePullPolicy: Never }]
---
apiVersion: batch/v1
kind: Job
metadata: { name: once, namespace: work }
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: hello, image: corten.dev/hello:v1, imagePullPolicy: Never, command: [/hello, exit, "0"] }]
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: each-minute, namespace: work }
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{ name: hello, image: corten.dev/hello:v1, imagePullPolicy: Never, command: [/hello, exit, "0"] }]
"#;

fn stateful_and_daemon_sets(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(WORKLOADS)?;
    cluster.kubectl(&["-n", "work", "rollout", "status", "statefulset/ordered", "--timeout=300s"])?;
    cluster.kubectl(&["-n", "work", "rollout", "status", "daemonset/everywhere", "--timeout=300s"])?;
    cluster.kubectl(&["-n", "work", "get", "pod", "ordered-1"]).map(drop)
}

fn jobs(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.kubectl(&["-n", "work", "wait", "job/once", "--for=condition=Complete", "--timeout=300s"])?;
    until("a job of the CronJob", 2 * PATIENCE, || {
        let jobs = json(cluster, &["-n", "work", "get", "jobs"])?;
        let done = |job: &Value| {
            job["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("each-minute")) && job["status"]["succeeded"] == 1
        };
        ensure!(jobs["items"].as_array().is_some_and(|jobs| jobs.iter().any(done)), "no job of it succeeded yet");
        Ok(())
    })
}

fn quota(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.kubectl(&["-n", "work", "create", "quota", "few", "--hard=pods=0"])?;
    let refusal = until("a refusal", PATIENCE, || {
        let tried = cluster.kubectl(&["-n", "work", "run", "more", "--image=corten.dev/hello:v1", "--dry-run=server"]);
        match tried {
            Ok(_) => anyhow::bail!("the pod was accepted"),
            Err(error) => Ok(format!("{error:#}")),
        }
    })?;
    ensure!(refusal.contains("exceeded quota"), "{refusal}");
    Ok(())
}

fn namespace_deletion(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.kubectl(&["delete", "namespace", "work", "--wait=false"])?;
    until("namespace work gone", 2 * PATIENCE, || {
        let left = cluster.kubectl(&["get", "namespace", "work", "--ignore-not-found"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    ensure!(json(cluster, &["get", "pods", "-n", "work"])?["items"] == Value::Array(Vec::new()), "pods are left");
    Ok(())
}

pub fn node_ip(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.kubectl(&["get", "node", "cp-1", "-o", "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}"])
}

/// Runs a program in a pod of the sample.
pub fn in_sample(cluster: &Cluster, program: &[&str]) -> anyhow::Result<String> {
    cluster.kubectl(&[&["exec", "deployment/hello", "--"], program].concat())
}

/// A kubectl that serves a port of this host until the value ends.
struct Background {
    child: Child,
    port: u16,
    /// It prints a line for each connection, and a closed pipe would end it.
    output: BufReader<ChildStdout>,
}

impl Background {
    /// Both port-forward and proxy print the address that they chose in their first line.
    fn start(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Background> {
        let mut child = cluster.kubectl_command().args(arguments).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("standard output")?);
        let mut background = Background { child, port: 0, output };
        let mut line = String::new();
        background.output.read_line(&mut line)?;
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        background.port = port.with_context(|| format!("no port in {line:?}"))?;
        Ok(background)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It ends only so; a child that ended by itself is no matter here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the answer")?;
    Ok(answer)
}
