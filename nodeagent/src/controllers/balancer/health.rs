//! Asks one API server again and again whether it is ready, and keeps it in the pool while it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controlplane::client::Client;
use controlplane::pki::{CertificateId, Issued};
use machine::service::ServiceStatus;
use tokio::time::{Instant, timeout};

use super::Target;
use super::pool::Pool;
use crate::controllers::pki::Keyring;
use crate::controllers::{api, control_plane};
use crate::node::Node;
use crate::resources::cluster::ApiServer;
use crate::resources::services;
use crate::store::Resource;

/// One that starts is asked often: much waits for it, and /readyz is all that tells. But all machines ask, and each answer costs the server a read of
/// etcd: one that is slow to answer is left alone for longer.
const WHILE_DOWN: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5);
const OF_THE_ANSWER: u32 = 3;
const WHILE_UP: Duration = Duration::from_secs(3);
/// How long the only server may take to answer; and one beside others, which is not missed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const BESIDE_OTHERS: Duration = Duration::from_secs(2);
/// Failures in a row after which a server that was ready no longer is: a busy one may be late once.
const PATIENCE: u32 = 2;

/// Runs until it is aborted.
pub async fn run(node: Node, pool: Arc<Pool>, target: Target) {
    let mut keyring = Keyring::default();
    // By which certificate, and whom it believes: either may be replaced.
    let mut client: Option<((Issued, String), Client)> = None;
    let mut failures = PATIENCE;
    loop {
        if target.local && !services::is_ready(&node.store, control_plane::API_SERVER) {
            failures = PATIENCE;
            tell(&node, &pool, &target, false, format!("service {} is not ready", control_plane::API_SERVER));
            started(&node).await;
        }
        let trusted = node.config().map(|applied| applied.config.cluster.certificate_authorities.kubernetes.certificate.clone());
        let wanted = keyring.get(&node, CertificateId::Agent).zip(trusted);
        if client.as_ref().map(|(used, _)| used) != wanted.as_ref() {
            client = wanted.and_then(|wanted| Some((wanted.clone(), connect(&node, &target, &wanted.0)?)));
        }
        let asked = Instant::now();
        let error = match &client {
            Some((_, client)) => ask(client, if pool.has_other(target.address) { BESIDE_OTHERS } else { ANSWER_DEADLINE }).await,
            None => Some("the agent has no certificate for it".to_owned()),
        };
        failures = if error.is_some() { failures.saturating_add(1) } else { 0 };
        let ready = failures < PATIENCE;
        tell(&node, &pool, &target, ready, error.unwrap_or_default());
        let pause = match failures {
            0 => WHILE_UP,
            _ if ready => *WHILE_DOWN.start(),
            _ => while_down(asked.elapsed()),
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long to leave a server alone that took this long to answer.
fn while_down(answer: Duration) -> Duration {
    (answer * OF_THE_ANSWER).clamp(*WHILE_DOWN.start(), *WHILE_DOWN.end())
}

fn tell(node: &Node, pool: &Pool, target: &Target, ready: bool, error: String) {
    if ready {
        pool.add(target.address, target.local)
    } else {
        pool.remove(target.address)
    }
    let status = ApiServer { address: target.address, ready, local: target.local, error };
    node.store.put(&target.address.to_string(), &status);
}

/// Waits until this machine's own server says that it listens; asking it before would only take its time.
async fn started(node: &Node) {
    let services = BTreeSet::from([ServiceStatus::KIND.to_owned()]);
    let mut board = node.store.revision();
    loop {
        let revision = *board.borrow_and_update();
        if services::is_ready(&node.store, control_plane::API_SERVER) {
            return;
        }
        while board.changed().await.is_ok() && !node.store.changed_after(revision, &services) {}
    }
}

fn connect(node: &Node, target: &Target, issued: &Issued) -> Option<Client> {
    let connected = api::connect(&node.config()?.config, &format!("https://{}", target.address), issued);
    connected.inspect_err(|error| tracing::warn!("balancer: {error:#}")).ok()
}

/// What is wrong; none when it is ready.
async fn ask(client: &Client, deadline: Duration) -> Option<String> {
    match timeout(deadline, client.readyz()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(reason(&format!("{:#}", anyhow::Error::from(error)))),
        Err(_) => Some(format!("no answer within {} s", deadline.as_secs())),
    }
}

/// The checks that fail, of an answer that lists all of them (`[-]etcd failed: reason withheld`); else its first line. A server that starts has
/// dozens that fail, and others each time.
fn reason(answer: &str) -> String {
    const SHOWN: usize = 3;
    let failing: Vec<&str> = answer.lines().filter_map(|line| line.trim().strip_prefix("[-]")?.split_whitespace().next()).collect();
    match failing.len() {
        0 => answer.lines().next().unwrap_or_default().to_owned(),
        length if length <= SHOWN => format!("/readyz: {} fails", failing.join(", ")),
        length => format!("/readyz: {} and {} more fail", failing[..SHOWN].join(", "), length - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_checks_are_named() {
        let answer = |failing: &[&str]| {
            let lines: String = failing.iter().map(|name| format!("[-]{name} failed: reason withheld\n")).collect();
            format!("asking for /readyz: ApiError: [+]ping ok\n{lines}[+]log ok\nreadyz check failed")
        };
        assert_eq!(reason(&answer(&["etcd"])), "/readyz: etcd fails");
        assert_eq!(reason(&answer(&["a", "b", "c", "d", "e"])), "/readyz: a, b, c and 2 more fail");
        assert_eq!(reason("tcp connect error: Connection refused\nmore"), "tcp connect error: Connection refused");
    }

    #[test]
    fn a_slow_server_is_asked_less_often() {
        let pauses = [0, 100, 500, 1000, 5000].map(|answer| while_down(Duration::from_millis(answer)).as_millis());
        assert_eq!(pauses, [500, 500, 1500, 3000, 5000]);
    }
}
