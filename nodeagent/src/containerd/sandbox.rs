//! A pod sandbox of our own, by the kubelet's interface to the runtime (CRI v1): the pause program in a network of the cluster's. Whether pods
//! can start is known only by starting one: the kubelet calls the network ready as soon as its configuration lies there.

use std::path::Path;

use anyhow::Context;
use prost::Message;
use tonic::Status;
use tonic::transport::Channel;

use super::cri::{Metadata, ask};

/// The kubelet removes it, as the sandbox of a pod that it does not know, if the agent dies in between.
const NAME: &str = "corten-gate";
const NAMESPACE: &str = "kube-system";
/// Where the kubelet puts pods that ask for nothing.
const CGROUP: &str = "/kubepods/besteffort";

// Of k8s.io/cri-api's runtime/v1/api.proto, the fields that are set here.

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
}

/// The answer to a run, and what stopping and removing ask for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sandbox {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// Starts a pod sandbox and takes it away again. `uid`: of no pod there was or will be, since the runtime keeps names of sandboxes that failed
/// for a while. The error says in one line what the runtime says.
pub async fn try_sandbox(socket: &Path, uid: &str) -> anyhow::Result<()> {
    let channel = super::connect(socket).await?.channel();
    let sandbox = run(&channel, uid).await?;
    remove(&channel, &sandbox).await;
    Ok(())
}

pub(super) async fn run(channel: &Channel, uid: &str) -> anyhow::Result<Sandbox> {
    let config = SandboxConfig {
        metadata: Some(Metadata { name: NAME.to_owned(), uid: uid.to_owned(), namespace: NAMESPACE.to_owned() }),
        hostname: NAME.to_owned(),
        linux: Some(LinuxConfig { cgroup_parent: CGROUP.to_owned() }),
    };
    let run: Result<Sandbox, Status> = ask(channel, "RunPodSandbox", RunRequest { config: Some(config) }).await;
    run.map_err(|status| anyhow::anyhow!("{}", one_line(status.message()))).context("starting a pod's sandbox")
}

pub(super) async fn remove(channel: &Channel, sandbox: &Sandbox) {
    for method in ["StopPodSandbox", "RemovePodSandbox"] {
        let done: Result<(), Status> = ask(channel, method, sandbox.clone()).await;
        // Pods can start: that it was asked for. The kubelet sweeps up.
        if let Err(status) = done {
            tracing::warn!("{method} {}: {}", sandbox.id, status.message());
        }
    }
}

/// Without the sandbox's id, which changes with each try and tells a reader nothing.
fn one_line(message: &str) -> String {
    let words = message.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) { word.replace(bare, "...") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_says_is_one_line_without_ids() {
        let id = "0123456789abcdef".repeat(4);
        let said = format!("failed to setup network for sandbox \"{id}\": plugin type=\"bridge\" failed (add):\n exit status 1");
        assert_eq!(one_line(&said), "failed to setup network for sandbox \"...\": plugin type=\"bridge\" failed (add): exit status 1");
    }
}
