//! Ten machines at once, one of them hostile: nine get in, within a stated time, and the tenth gets nothing and does not slow them much.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use machine::config::Secret;

use super::hostile::{Told, attack};
use super::joined;
use super::machines::{Joiner, Lan, address};
use crate::controllers::real_cluster::machine_under_test::until;

const WORKERS: u8 = 9;
/// Within which all nine have all their certificates: 3 s on two idle cores, a minute on two that ten others want.
const ALL_IN: Duration = Duration::from_secs(120);
/// By how much the hostile one may slow them.
const SLOWER: f64 = 3.0;
/// What it may have the agent hold, with what it needs itself: both live in the test's process.
const MEMORY: u64 = 96 << 20;

#[test]
fn nine_join_beside_a_hostile_one() -> Result<()> {
    Lan::new()?.run(async |lan| {
        lan.start_control_plane().await?;
        check(lan).await
    })
}

async fn check(lan: &Lan) -> Result<()> {
    let quiet = nine(lan, "quiet", 20).await.context("without the hostile one")?;
    let memory = resident()?;

    let mut config = lan.worker();
    config.cluster.join_token = Some(Secret::new("abcdef.0123456789abcdef"));
    let hostile = lan.join("hostile", 200, config).await?;
    let told = Arc::new(Told::default());
    let heard = told.clone();
    let stopped = hostile.run(move |node, _| attack(node, heard));
    let beside = async {
        until("the hostile one has tried everything", || async { told.tried(&["silent", "flooding", "hanging", "oversize"]) }).await?;
        let beside = nine(lan, "beside", 40).await.context("beside the hostile one");
        told.stop();
        beside
    };
    let (stopped, beside) = tokio::join!(stopped, beside);
    stopped?;
    let beside = beside?;
    let grown = resident()?.saturating_sub(memory);
    eprintln!(
        "nine joined in {quiet:?}, beside a hostile one in {beside:?}; memory grew by {} MiB; it was told {:#?}",
        grown >> 20,
        told.counts()
    );
    ensure!(beside < ALL_IN, "nine took {beside:?}");
    ensure!(beside.as_secs_f64() < SLOWER * quiet.as_secs_f64().max(5.0), "nine took {quiet:?} alone, and {beside:?} beside a hostile one");
    ensure!(grown < MEMORY, "memory grew by {grown} octets");
    ensure!(told.counts().keys().all(|told| !told.contains("GRANTED")), "{:?}", told.counts());
    let machines = lan.admission()?.machines().await?;
    ensure!(machines.iter().all(|machine| !machine.addresses.contains(&address(200))), "the hostile one got in: {machines:?}");
    Ok(())
}

/// Nine workers that ask at once; until the last of them has joined.
async fn nine(lan: &Lan, name: &str, from: u8) -> Result<Duration> {
    let began = Instant::now();
    let started = (0..WORKERS).map(|i| async move { lan.join(&format!("{name}-{i}"), from + i, lan.worker()).await });
    let machines: Vec<Joiner> = futures::future::try_join_all(started).await?;
    futures::future::try_join_all(machines.iter().map(joined)).await?;
    Ok(began.elapsed())
}

/// Memory of this process, in octets.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
