//! The machine API beside etcd's, as servers: how long a small call takes, and how many a second of the server's CPU time answers.
//!
//! Both run natively in a network namespace of their own and are asked in turns by the same client over the same kind of TLS: ours
//! `Machine.GetVersion`, etcd `Maintenance.Status`. Needs root (namespaces; the agent expects it).

pub mod agent;
pub mod caller;
mod etcd;
pub mod identities;
mod init;
pub mod namespace;
mod process;

use std::time::Duration;

use anyhow::Context;
use controlplane::pki::MachineRole;
use serde_json::json;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::{Samples, quantile};
use caller::{Call, Caller};
use process::Process;

/// Fewer tell nothing of the tail.
pub const LEAST_ROUNDS: usize = 7;
/// Calls one after the other whose times make a round's quantiles.
const CALLS: usize = 4000;
/// Calls that are not counted: caches, the Go runtime's heap, TCP windows.
const WARM_UP: usize = 1000;
/// For how long a round keeps many calls under way.
const LOAD: Duration = Duration::from_secs(3);

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    // Namespaces are a thread's: everything that this one starts lives in them, and the benchmark's own threads do not.
    let measured = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        namespace::enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(compare(rounds))
    })?;
    measured.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

/// A server and what its rounds gave.
struct Server {
    caller: Caller,
    process: Process,
    median: Samples,
    tail: Samples,
    rate: Samples,
}

async fn compare(rounds: usize) -> anyhow::Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("corten-bench-api-").tempdir()?;
    let identities = identities::Identities::generate(MachineRole::Reader)?;
    let agent = agent::start(&folder.path().join("machine"), &identities, &agent::Played::bare()).await.context("our agent")?;
    let etcd = etcd::start(&folder.path().join("etcd"), &identities).await.context("etcd")?;
    let mut ours = Server::open(agent, Call::GetVersion, &identities).await?;
    let mut peer = Server::open(etcd, Call::EtcdStatus, &identities).await?;
    for _ in 0..rounds {
        ours.latency().await?;
        peer.latency().await?;
        ours.load().await?;
        peer.load().await?;
    }
    let memory = json!({ "agentResidentBytes": ours.process.resident_bytes()?, "etcdResidentBytes": peer.process.resident_bytes()? });
    let figures = vec![
        Figure::beside("API call, p50", Unit::Microseconds, ours.median, peer.median, Goal::None),
        Figure::beside("API call, p99", Unit::Microseconds, ours.tail, peer.tail, Goal::RatioAtMost(0.5)),
        Figure::beside("API calls per CPU-second", Unit::RequestsPerCpuSecond, ours.rate, peer.rate, Goal::RatioAtLeast(2.0)),
    ];
    let notes = vec![
        format!("peer: {}, Maintenance.Status; both TLS 1.3 with client certificates (ECDSA P-256), {rounds} rounds in turns", etcd::NAME),
        format!(
            "p50 and p99 of {CALLS} calls one after the other; calls per CPU-second of the server with {} under way",
            caller::UNDER_WAY
        ),
    ];
    Ok(Outcome { figures, notes, details: memory })
}

impl Server {
    async fn open(process: Process, call: Call, identities: &identities::Identities) -> anyhow::Result<Server> {
        let caller = Caller::connect(call, identities).await?;
        caller.one_by_one(WARM_UP).await?;
        Ok(Server { caller, process, median: Samples::default(), tail: Samples::default(), rate: Samples::default() })
    }

    async fn latency(&mut self) -> anyhow::Result<()> {
        let mut times: Vec<f64> = self.caller.one_by_one(CALLS).await?.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        self.median.push(quantile(&times, 0.5));
        self.tail.push(quantile(&times, 0.99));
        Ok(())
    }

    async fn load(&mut self) -> anyhow::Result<()> {
        let before = self.process.processor_time()?;
        let answered = self.caller.many_at_once(LOAD).await?;
        let spent = self.process.processor_time()? - before;
        self.rate.push(answered as f64 / spent.as_secs_f64());
        Ok(())
    }
}
