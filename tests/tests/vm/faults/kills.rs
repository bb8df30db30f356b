//! Programs that die, and a reboot: done to a running cluster.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::sample;
use tests::until::until;

use crate::checks::Check;
use crate::kubernetes::in_sample;
use crate::services;

const RECOVERY: Duration = Duration::from_secs(400);

pub const CHECKS: &[Check] = &[
    ("kill -9 of nodeagent: it comes back and finds every service running", nodeagent_dies),
    ("kill -9 of containerd: it comes back, pods keep running", |cluster| service_dies(cluster, "containerd", true)),
    ("kill -9 of the kubelet: it comes back, pods keep running", |cluster| service_dies(cluster, "kubelet", true)),
    ("kill -9 of etcd: it comes back and has all that it had", |cluster| service_dies(cluster, "etcd", false)),
];

pub const REBOOT: &[Check] = &[("a reboot keeps the cluster", reboot)];

const KILLER: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: killer }
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  tolerations: [{ operator: Exists }]
  containers:
    - name: hello
      image: corten.dev/hello:v1
      imagePullPolicy: Never
      command: [/hello, sleep]
      securityContext: { privileged: true, runAsUser: 0 }
"#;

/// Sends SIGKILL to a program from a privileged pod: the machine itself has nothing that could.
fn kill(cluster: &Cluster, program: &str) -> anyhow::Result<()> {
    cluster.apply(KILLER)?;
    cluster.kubectl(&["wait", "pod/killer", "--for=condition=Ready", "--timeout=50s"])?;
    // Its answer is lost where the way to the pod leads through what it kills; what happened is seen below.
    let _ = cluster.kubectl(&["exec", "killer", "--", "/hello", "kill", program]);
    Ok(())
}

fn nodeagent_dies(cluster: &Cluster) -> anyhow::Result<()> {
    let before = services::processes(cluster)?;
    kill(cluster, "nodeagent")?;
    until("nodeagent back, and nothing else restarted", RECOVERY, || {
        for ((name, old), (_, new)) in before.iter().zip(services::processes(cluster)?) {
            ensure!((*name == "nodeagent") == (*old != new), "{name} had process {old} and has {new}");
        }
        Ok(())
    })?;
    answers(cluster)
}

fn service_dies(cluster: &Cluster, program: &str, pods_keep_running: bool) -> anyhow::Result<()> {
    let before = services::status(cluster, program)?["pid"].clone();
    let pods = restarts(cluster)?;
    kill(cluster, program)?;
    until(&format!("{program} back"), RECOVERY, || {
        let now = services::status(cluster, program)?;
        ensure!(now["pid"] != before && now["state"] == "ready", "{now}");
        Ok(())
    })?;
    cluster.machinectl(&["health", "--wait", "3m"])?;
    answers(cluster)?;
    if pods_keep_running {
        let now = restarts(cluster)?;
        ensure!(now == pods, "containers' restarts were {pods:?} and are {now:?}");
    }
    Ok(())
}

/// Restarts of each container of the sample.
fn restarts(cluster: &Cluster) -> anyhow::Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}\n{end}";
    cluster.kubectl(&["get", "pods", "-l", "app=hello", "-o", path])
}

fn answers(cluster: &Cluster) -> anyhow::Result<()> {
    until("the sample", RECOVERY, || {
        let address = cluster.kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
        let answer = in_sample(cluster, &["/hello", "get", &format!("http://{address}:80/")])?;
        ensure!(answer.contains(" from hello-"), "answered {answer:?}");
        Ok(())
    })
}

/// The cluster, its objects and its images are there after a reboot.
fn reboot(cluster: &Cluster) -> anyhow::Result<()> {
    let boot = |cluster: &Cluster| -> anyhow::Result<Value> {
        let version: Value = serde_json::from_str(&cluster.machinectl(&["version", "-o", "json"])?)?;
        Ok(version)
    };
    let before = boot(cluster)?.to_string();
    cluster.machinectl(&["reboot", "--yes"])?;
    until("another boot", Duration::from_secs(300), || {
        let now = boot(cluster)?.to_string();
        ensure!(now != before, "still the same boot");
        Ok(())
    })?;
    cluster.machinectl(&["health", "--wait", "8m", "--timeout", "10m"])?;
    let answer = sample::deploy(cluster)?;
    ensure!(answer.starts_with("hello from hello-"), "the sample answered {answer:?}");
    Ok(())
}
