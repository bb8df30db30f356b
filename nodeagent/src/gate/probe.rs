//! Asks what a check asks. Each question has a deadline, and an answer that does not pass says what came instead.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use controlplane::client::{Access, Client};
use controlplane::etcd;
use controlplane::pki::{CertificateId, Issued};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use machine::config::{HealthCheck, PodCheck, Probe, Role};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http;
use crate::containerd;
use crate::controllers::api;
use crate::controllers::pki::Keyring;
use crate::names;
use crate::node::Node;
use crate::resources::network::Hostname;

/// For the agent's own questions.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Programs are started for it, one after the other.
const SANDBOX_DEADLINE: Duration = Duration::from_secs(45);

/// What the user's check says.
pub async fn ask(node: &Node, check: &HealthCheck, agent: Option<&Issued>) -> Result<(), String> {
    within(check.timeout.0, async {
        match check.probe().context("exactly one of http, tcp and pod is needed")? {
            Probe::Http(wanted) => http::ask(node, wanted).await,
            Probe::Tcp(wanted) => names::connect(node, &wanted.address.parse()?).await.map(drop),
            Probe::Pod(wanted) => pod(node, wanted, agent).await,
        }
    })
    .await
}

/// Whether the runtime can start a pod in the cluster's network.
pub async fn pods_start(node: &Node) -> Result<(), String> {
    // The runtime keeps the name of a sandbox that failed for a while: each try of this process has its own.
    static TRIES: AtomicU64 = AtomicU64::new(1);
    let uid = format!("corten-gate-{}-{}", std::process::id(), TRIES.fetch_add(1, Ordering::Relaxed));
    within(SANDBOX_DEADLINE, containerd::try_sandbox(&node.root.containerd_socket(), &uid)).await
}

/// Whether something takes connections at an address of this machine's.
pub async fn listens(address: SocketAddr) -> Result<(), String> {
    within(ANSWER_DEADLINE, async { TcpStream::connect(address).await.map(drop).with_context(|| format!("connecting to {address}")) }).await
}

/// Whether this machine's etcd has a leader and answers.
pub async fn etcd(node: &Node, keyring: &mut Keyring) -> Result<(), String> {
    let issued = keyring.get(node, CertificateId::EtcdHealthClient);
    within(ANSWER_DEADLINE, async {
        let config = node.config().context("the machine has no config")?.config;
        ensure!(config.machine.role == Role::ControlPlane, "it runs on control planes only");
        let issued = issued.context("the agent has no certificate for it")?;
        let authority = &config.cluster.certificate_authorities.etcd_client.certificate;
        let server = etcd::health_server();
        let access = Access { server: &server, authority, certificate: &issued.certificate_pem, key: &issued.key_pem };
        Client::new(access)?.get(etcd::HEALTH_PATH).await?;
        Ok(())
    })
    .await
}

async fn pod(node: &Node, wanted: &PodCheck, agent: Option<&Issued>) -> anyhow::Result<()> {
    let config = node.config().context("the machine has no config")?.config;
    let agent = agent.context("the agent has no certificate of the cluster's yet")?;
    let name = node.store.get::<Hostname>(Hostname::NAME).map(|name| name.hostname).context("the machine has no name yet")?;
    let pods: Api<Pod> = Api::namespaced(api::balanced(&config, agent)?.kube().clone(), &wanted.namespace);
    let here = ListParams::default().fields(&format!("spec.nodeName={name}"));
    judge(wanted, &pods.list(&here).await.context("listing pods")?.items)
}

/// Whether all pods that fit are Ready, and there is one.
fn judge(wanted: &PodCheck, pods: &[Pod]) -> anyhow::Result<()> {
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let fits = |pod: &&Pod| {
        let name = name(pod);
        name.strip_prefix(&wanted.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) && !is_over(pod)
    };
    let (ready, waiting): (Vec<&Pod>, Vec<&Pod>) = pods.iter().filter(fits).partition(|pod| is_ready(pod));
    if let Some(first) = waiting.first() {
        bail!("pod {} is not Ready", name(first));
    }
    ensure!(!ready.is_empty(), "no such pod runs on this machine");
    Ok(())
}

/// Pods of Jobs that have ended, and those that are leaving, say nothing of the machine.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The answer, or why there is none, in one line.
async fn within(deadline: Duration, asking: impl Future<Output = anyhow::Result<()>>) -> Result<(), String> {
    match timeout(deadline, asking).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
        Err(_) => Err(format!("no answer within {}", machine::config::Duration(deadline))),
    }
}

#[cfg(test)]
mod tests;
