//! Three machines on one segment, each with the agent's part, and a real etcd: one of them holds the address, whatever happens to it, and never
//! two at a time. Needs root, for namespaces, and what `make components` builds.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use machine::config::Config;
use machine::service::ServiceState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::VirtualIp;
use crate::controller;
use crate::controllers::join::real::machines::{CONTROL_PLANE, Joiner, Lan, forward_etcd, ip};
use crate::controllers::real_cluster::machine_under_test::until;
use crate::node::Node;
use crate::resources::cluster::ApiServer;
use crate::server::testing::service;

/// Last part of the address, among those of the segment.
const VIRTUAL_IP: u8 = 50;
const PORT: u16 = 8080;
/// An orderly change: a beat of 2 s, and time for processors that others want as well.
const AFTER_RESIGNATION: Duration = Duration::from_secs(20);
/// The lease of 10 s, a beat, and the same.
const AFTER_SILENCE: Duration = Duration::from_secs(40);

#[test]
fn one_machine_holds_the_address() -> Result<()> {
    Lan::new()?.run(check)
}

#[test]
fn one_machine_holds_the_address_of_ipv6() -> Result<()> {
    Lan::ipv6()?.run(check)
}

/// When each machine had the address: first and last time that it was seen.
type Spans = Arc<Mutex<Vec<(String, Instant, Instant)>>>;

async fn check(lan: &mut Lan) -> Result<()> {
    lan.start_etcd().await?;
    let (address, spans) = (lan.address(VIRTUAL_IP), Spans::default());
    let mut config = lan.founder();
    config.cluster.virtual_ip = Some(address);
    let mut machines = Vec::new();
    let began = Instant::now();
    for (name, last) in [("cp-2", 12), ("cp-3", 13), ("cp-4", 14)] {
        machines.push(boot(lan, name, last, config.clone(), spans.clone()).await?);
    }
    let first = holder(address, &machines, &spans, "", began, "the first election").await?;

    let began = Instant::now();
    ready(&machines[first].node, false);
    let second = holder(address, &machines, &spans, &machines[first].name, began, "the API server is not ready").await?;
    ensure!(began.elapsed() < AFTER_RESIGNATION, "a resignation took {:?}", began.elapsed());
    ready(&machines[first].node, true);

    let began = Instant::now();
    let dead = machines.remove(second);
    let name = dead.name.clone();
    drop(dead);
    let third = holder(address, &machines, &spans, &name, began, "the machine is gone").await?;
    ensure!(began.elapsed() < AFTER_SILENCE, "it took {:?}", began.elapsed());

    let began = Instant::now();
    let name = machines[third].name.clone();
    machines[third].run(|_, _| async { ip("link set eth0 down") }).await?;
    holder(address, &machines, &spans, &name, began, "the machine is cut off").await?;
    ensure!(began.elapsed() < AFTER_SILENCE, "it took {:?}", began.elapsed());
    machines[third].run(|_, _| async { ip("link set eth0 up") }).await?;

    never_two(&spans)
}

async fn boot(lan: &Lan, name: &str, last: u8, config: Config, spans: Spans) -> Result<Joiner> {
    let [address, etcd] = [VIRTUAL_IP, CONTROL_PLANE].map(|last| lan.address(last));
    let machine = lan.join(name, last, config).await?;
    machine
        .run(move |node, name| async move {
            forward_etcd(etcd).await?;
            node.store.put("etcd", &service("etcd", ServiceState::Ready));
            ready(&node, true);
            tokio::spawn(answer(name.clone()));
            tokio::spawn(watch(address, name, spans));
            tokio::spawn(controller::run(VirtualIp::new()?, node));
            Ok(())
        })
        .await?;
    Ok(machine)
}

/// What the balancer would say of this machine's own.
fn ready(node: &Node, ready: bool) {
    let server = ApiServer { address: SocketAddr::from(([127, 0, 0, 1], 1)), ready, local: true, error: String::new() };
    node.store.put("played", &server);
}

/// Says its name to whoever connects.
async fn answer(name: String) -> Result<()> {
    let listener = TcpListener::bind(("::", PORT)).await?;
    loop {
        listener.accept().await?.0.write_all(name.as_bytes()).await?;
    }
}

/// What the kernel has of the address.
async fn watch(address: IpAddr, name: String, spans: Spans) {
    // As these files write it: a line of its own, or its 32 digits first.
    let (file, line) = match address {
        IpAddr::V4(address) => ("fib_trie", format!("{address}\n")),
        IpAddr::V6(address) => ("if_inet6", format!("{:032x} ", address.to_bits())),
    };
    let mut had = false;
    loop {
        let before = Instant::now();
        let has = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).is_ok_and(|text| text.contains(&line));
        note(&spans, &name, (before, Instant::now()), has, had);
        had = has;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// It was looked at between two moments, which a busy host may have far apart: what is noted is when the machine had it for certain.
fn note(spans: &Spans, name: &str, (before, after): (Instant, Instant), has: bool, had: bool) {
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    match spans.iter_mut().rev().find(|(of, _, _)| *of == name) {
        Some((_, _, end)) if has && had => *end = before,
        _ if has => spans.push((name.to_owned(), after, after)),
        _ => {}
    }
}

/// Waits until the address leads to another machine than the one before, from a neighbour that has talked to it there.
async fn holder(address: IpAddr, machines: &[Joiner], spans: &Spans, before: &str, since: Instant, why: &str) -> Result<usize> {
    let found = until("another machine answers", || async {
        let connected = async {
            let mut stream = TcpStream::connect((address, PORT)).await?;
            let mut name = String::new();
            stream.read_to_string(&mut name).await.map(|_| name)
        };
        let name = tokio::time::timeout(Duration::from_millis(300), connected).await.context("nobody answers")??;
        let statuses = || machines.iter().map(|machine| format!("{} {:?}", machine.name, machine.controllers())).collect::<Vec<_>>();
        ensure!(name != before, "{name} answers still: {:?}", statuses());
        machines.iter().position(|machine| machine.name == name).with_context(|| format!("{name:?} is none of them"))
    })
    .await
    .with_context(|| why.to_owned())?;
    let name = &machines[found].name;
    eprintln!("{why}: {name} has the address after {:?}", since.elapsed());
    // It may lose it again at once: not before that was noted which the last check counts on.
    until("the machine has noted that it has the address", || async {
        let noted = spans.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(of, _, end)| of == name && *end >= since);
        ensure!(noted, "{name} has not");
        Ok(())
    })
    .await?;
    Ok(found)
}

fn never_two(spans: &Spans) -> Result<()> {
    let spans = spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(spans.len() >= 4, "{spans:?}");
    for (index, (name, begin, end)) in spans.iter().enumerate() {
        for (other, other_begin, other_end) in &spans[index + 1..] {
            ensure!(name == other || end < other_begin || other_end < begin, "{name} and {other} had it at the same time: {spans:?}");
        }
    }
    Ok(())
}
