//! An upgrade while a pod serves: for how long who asks from outside gets no answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tests::cluster::Cluster;

use super::kubernetes::{cluster, serves};
use super::standing::{self, last_record};
use super::swap::Updates;

/// The host comes in by QEMU's own network, not by the one that the Node has its address in.
const CONFIG: &str = r#"{
  machine: { health: { hold: 10s, deadline: 10m, tries: 2 } },
  cluster: { network: { proxy: { config: { nodePortAddresses: ["10.0.2.0/24"] } } } }
}"#;
const NODE_PORT: u16 = 30080;
/// From the end of one question to the next one.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// A reboot of a control plane under emulation on a busy host, several times over.
const AWAY: Duration = Duration::from_secs(10 * 60);

/// When answers came, and whether they were good ones.
type Answers = Vec<(Instant, bool)>;

/// The longest time from one good answer to the next with others in between, and how many others there were in all.
fn away(answers: &[(Instant, bool)]) -> (Duration, usize) {
    let good: Vec<usize> = answers.iter().enumerate().filter(|(_, (_, good))| *good).map(|(index, _)| index).collect();
    let gaps = good.windows(2).filter(|pair| pair[1] - pair[0] > 1).map(|pair| answers[pair[1]].0 - answers[pair[0]].0);
    (gaps.max().unwrap_or_default(), answers.len() - good.len())
}

fn watch(over: &AtomicBool, ask: impl Fn() -> bool) -> Answers {
    let mut answers = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let good = ask();
        answers.push((Instant::now(), good));
        thread::sleep(BETWEEN);
    }
    answers
}

/// The sample through its Service, at a port of the node's that QEMU forwards from now on.
fn open_node_port(cluster: &Cluster) -> anyhow::Result<u16> {
    let ports = json!([{ "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }]);
    let patch = json!({ "spec": { "type": "NodePort", "ports": ports } }).to_string();
    cluster.kubectl(&["patch", "service", "hello", "--patch", &patch])?;
    let port = testbed::free_port()?;
    let mut qmp = testbed::Qmp::connect(&cluster.machine_directory("cp-1"), "qmp.sock")?;
    let line = format!("hostfwd_add net0 tcp:127.0.0.1:{port}-:{NODE_PORT}");
    let said = qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
    ensure!(said == "", "QEMU said {said} to {line:?}");
    Ok(port)
}

fn sample_answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("hello from hello-"))
}

/// Upgrades, and gives the answers of the machine API, the Kubernetes API and the sample meanwhile.
fn upgrade_watched(cluster: &Cluster, file: &Path, port: u16) -> anyhow::Result<[Answers; 3]> {
    let file = file.to_str().context("a path in UTF-8")?;
    let over = AtomicBool::new(false);
    let (upgraded, answers) = thread::scope(|scope| {
        let machine = scope.spawn(|| watch(&over, || cluster.machinectl(&["version", "--timeout", "3s"]).is_ok()));
        let kubernetes = scope.spawn(|| watch(&over, || cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=3s"]).is_ok()));
        let sample = scope.spawn(|| watch(&over, || sample_answers(port)));
        let upgraded = cluster
            .machinectl(&["upgrade", file, "--yes", "--no-drain", "--wait", "20m"])
            .and_then(|printed| serves(cluster).map(|()| printed));
        // One more answer of each.
        thread::sleep(2 * PATIENCE);
        over.store(true, Ordering::Relaxed);
        (upgraded, [machine, kubernetes, sample].map(|thread| thread.join().unwrap_or_default()))
    });
    println!("  {}", upgraded?.trim().lines().last().unwrap_or_default());
    Ok(answers)
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn an_upgrade_under_a_pod_that_serves() -> anyhow::Result<()> {
    let (cluster, updates) = (cluster(CONFIG)?, Updates::new()?);
    let ask = |arguments: &[&str]| cluster.json(arguments);
    let (_, from) = standing::running(&ask)?;
    let file = updates.build("controlplane", "0.3.0", |build| build)?;
    let port = open_node_port(&cluster)?;
    tests::until::until("the sample at its NodePort", AWAY, || {
        ensure!(sample_answers(port), "no answer at 127.0.0.1:{port}");
        Ok(())
    })?;
    let answers = upgrade_watched(&cluster, &file, port)?;
    let (version, slot) = standing::running(&ask)?;
    ensure!(version == "0.3.0" && slot != from, "{version} runs in slot {slot}, before all slot {from} did");
    let record = last_record(&ask)?["status"].clone();
    ensure!(record["phase"] == "blessed", "the upgrade's record: {record}");
    println!("  without an answer, in seconds of the host's clock:");
    for (name, answers) in ["machine API", "Kubernetes API", "sample through its Service"].into_iter().zip(&answers) {
        let (longest, failed) = away(answers);
        println!("    {:5.1}  {name} ({failed} of {} questions)", longest.as_secs_f32(), answers.len());
        ensure!(answers.last().is_some_and(|(_, good)| *good), "{name} does not answer at the end");
        ensure!(failed > 0, "{name} was never away: the machine did not reboot, or nobody asked");
        ensure!(longest < AWAY, "{name} was away for {} s; at most {} s were expected", longest.as_secs(), AWAY.as_secs());
    }
    Ok(())
}

#[test]
fn the_longest_silence_counts() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let answers = |good: &str| -> Answers { good.chars().zip(0..).map(|(good, at)| (start + at * second, good == '+')).collect() };
    assert_eq!(away(&answers("++++")), (Duration::ZERO, 0));
    assert_eq!(away(&answers("+-+---+-")), (4 * second, 5));
    assert_eq!(away(&answers("--+")), (Duration::ZERO, 2));
}
