//! Keeps the clock right by SNTP: servers from the config, else from DHCP.
//!
//! reads: machine config, leases, resolvers, services (whether etcd runs)   writes: timestatus

mod correct;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use clock_steering::unix::UnixClock;
use clock_steering::{Clock, TimeOffset};
use correct::{Correction, correction};
use rsntp::AsyncSntpClient;

use crate::names;
use crate::node::Node;
use crate::resources::network::{Lease, NodeIps};
use crate::resources::time::TimeStatus;

const PORT: u16 = 123;
/// Each server gets this long: a server that hangs must not hold up certificates.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(64);
const RETRY_MIN: Duration = Duration::from_secs(2);

/// Asks the servers and corrects the clock for as long as the agent lives.
pub async fn run(node: Node) {
    let mut retry = RETRY_MIN;
    let mut board = node.store.revision();
    loop {
        let servers = servers(&node);
        let known = node.store.get::<TimeStatus>(TimeStatus::NAME).unwrap_or_default();
        let status = synchronize(&node, &servers, known).await;
        let wait = if status.error.is_empty() { POLL } else { retry };
        retry = if status.error.is_empty() { RETRY_MIN } else { (retry * 2).min(POLL) };
        node.store.put(TimeStatus::NAME, &status);
        // Other servers are asked at once, the same ones again after the wait; that there are none counts from the first address on.
        let settles = settles(&node);
        let changed =
            async { while board.changed().await.is_ok() && self::servers(&node) == servers && self::settles(&node) == settles {} };
        let _ = tokio::time::timeout(wait, changed).await;
    }
}

/// Names or addresses: the config's, else those that DHCP gave.
fn servers(node: &Node) -> Vec<String> {
    let configured = node.config().map(|applied| applied.config.machine.network.time_servers.clone()).unwrap_or_default();
    if !configured.is_empty() {
        return configured;
    }
    let leases = node.store.all::<Lease>();
    leases.values().flat_map(|lease| &lease.time_servers).map(IpAddr::to_string).collect()
}

/// Before the first lease nobody knows whether there are servers.
fn settles(node: &Node) -> bool {
    node.config().is_some() && node.store.get::<NodeIps>(NodeIps::NAME).is_some_and(|ips| !ips.addresses.is_empty())
}

async fn synchronize(node: &Node, servers: &[String], known: TimeStatus) -> TimeStatus {
    let settled = known.settled || settles(node);
    let mut errors = Vec::new();
    for server in servers {
        match ask(node, server).await {
            Ok(offset) => {
                if let Err(error) = correct_clock(node, offset, known.synchronized) {
                    errors.push(format!("{error:#}"));
                    continue;
                }
                let offset_milliseconds = (offset * 1000.0) as i64;
                let (servers, server) = (servers.to_vec(), server.clone());
                return TimeStatus { synchronized: true, settled: true, servers, server, offset_milliseconds, error: String::new() };
            }
            Err(error) => errors.push(format!("{server}: {error:#}")),
        }
    }
    TimeStatus { servers: servers.to_vec(), settled: settled || !servers.is_empty(), error: errors.join("; "), ..known }
}

/// Seconds by which the clock is behind the server's.
async fn ask(node: &Node, server: &str) -> anyhow::Result<f64> {
    let found = names::addresses(node, server).await?;
    let address = SocketAddr::new(*found.first().context("no address")?, PORT);
    let client = AsyncSntpClient::with_config(rsntp::Config::default().timeout(ANSWER_DEADLINE).bind_address(unspecified(address)));
    let result = client.synchronize(address).await.with_context(|| format!("asking {address}"))?;
    Ok(result.clock_offset().as_secs_f64())
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

fn correct_clock(node: &Node, offset: f64, synchronized: bool) -> anyhow::Result<()> {
    let clock = UnixClock::CLOCK_REALTIME;
    match correction(offset, etcd_runs(node), POLL) {
        Correction::Step(seconds) => {
            tracing::info!("clock stepped by {seconds:.3} s");
            let whole = seconds.floor();
            let offset = TimeOffset { seconds: whole as i64, nanos: ((seconds - whole) * 1e9) as u32 };
            clock.step_clock(offset).map_err(|error| anyhow::anyhow!("stepping the clock: {error}"))?;
        }
        Correction::Slew { parts_per_million } => {
            clock.set_frequency(parts_per_million).map_err(|error| anyhow::anyhow!("slewing the clock: {error}"))?;
        }
    }
    if !synchronized {
        tracing::info!("clock synchronized");
    }
    Ok(())
}

/// etcd's leases and the API server's tokens do not stand a clock that goes back.
fn etcd_runs(node: &Node) -> bool {
    node.store.list("services").iter().any(|service| service.name == "etcd" && service.value["state"] != "stopped")
}
