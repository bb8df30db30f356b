//! Ends kube-proxy and takes its rules away.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use machine::config::ProxyMode;
use machine::service::ServiceStatus;
use tokio::process::Command;
use tokio::time::timeout;

use super::{ID, program};
use crate::controllers::service;
use crate::files;
use crate::node::Node;

/// init kills what does not end by itself, and then waits for its cgroup to be empty.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Some dozens of programs run within it, and each may wait for the lock of iptables.
const CLEAN_DEADLINE: Duration = Duration::from_secs(120);
/// Somebody else may change the same tables in that moment.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Ends once init says that the service has ended.
pub async fn stop(node: &Node) -> anyhow::Result<()> {
    service::remove(service::id(ID)?, node).await?;
    let mut board = node.store.revision();
    let ended = async {
        while node.store.get::<ServiceStatus>(ID).is_some() {
            board.changed().await?;
        }
        anyhow::Ok(())
    };
    timeout(STOP_DEADLINE, ended).await.context("waiting for kube-proxy to end")?
}

/// Has kube-proxy take away the rules of all its modes, and then forgets the mode. Where it cannot, a node without Services would be worse than
/// rules that are left: the next mode is started all the same, and an event says so.
pub async fn clean(node: &Node, of: ProxyMode, to: ProxyMode) -> anyhow::Result<()> {
    let mut cleaned = run(node).await;
    for tried in 1..TRIES {
        if cleaned.is_ok() {
            break;
        }
        tokio::time::sleep(PAUSE * tried).await;
        cleaned = run(node).await;
    }
    let (of, to) = (format!("{of:?}").to_lowercase(), format!("{to:?}").to_lowercase());
    match cleaned {
        Ok(()) => node.events.emit("service/kube-proxy", "Cleaned", format!("the rules of mode {of} are gone; the mode is {to} now")),
        Err(error) => {
            let message = format!("rules of mode {of} may be left, and go with the next reboot; the mode is {to} now: {error:#}");
            node.events.emit("service/kube-proxy", "CleaningFailed", message);
        }
    }
    files::remove(&node.root.kube_proxy_config())
}

/// Upstream's own way: it knows its rules of each version, and leaves everybody else's.
async fn run(node: &Node) -> anyhow::Result<()> {
    let mut command = Command::new(program(&node.root));
    command.arg("--cleanup").env_clear().envs(service::environment()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(CLEAN_DEADLINE, command.output()).await.context("waiting for kube-proxy --cleanup")?;
    let output = output.context("running kube-proxy --cleanup")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.trim().lines().rev().take(3).collect();
    ensure!(output.status.success(), "kube-proxy --cleanup: {}: {}", output.status, last.join("; "));
    Ok(())
}
