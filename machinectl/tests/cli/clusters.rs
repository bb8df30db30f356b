//! Local clusters, as far as they can be seen without a machine that runs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{ProcessId, segment};

use crate::terminal::{Ran, machinectl};

/// A cluster of machines that never ran, with a switch that does.
struct Cluster {
    home: tempfile::TempDir,
    switch: Child,
}

impl Cluster {
    fn new() -> Cluster {
        let home = tempfile::tempdir().expect("temporary directory");
        let folder = home.path().join(".local/share/corten/clusters/demo");
        let ports = ["cp-1", "worker-1"].map(|name| segment::Port { name: name.to_owned(), directory: folder.join(name) });
        segment::Plan { ports: ports.to_vec(), ..segment::Plan::default() }.save(&folder.join("segment")).expect("a plan");
        let mut command = Command::new(env!("CARGO_BIN_EXE_machinectl"));
        command.args(["cluster", "switch", "--limit", "60s"]).arg(folder.join("segment")).stdin(Stdio::null());
        let switch = command.spawn().expect("the switch");
        let process = ProcessId::of(i32::try_from(switch.id()).expect("a number")).expect("it runs");
        let machine = |role: &str| json!({ "role": role, "number": 1, "machine": null });
        let record = json!({
            "name": "demo", "image": "/disk.qcow2", "cpus": 2, "memoryBytes": 1, "diskBytes": 2, "isolated": true,
            "switch": process, "machines": [machine("controlPlane"), machine("worker")],
        });
        std::fs::write(folder.join("cluster.json"), record.to_string()).expect("a record");
        let began = Instant::now();
        while segment::status(&folder.join("segment")).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the switch does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Cluster { home, switch }
    }

    fn net(&self, arguments: &[&str]) -> Ran {
        machinectl(self.home.path(), &[&["cluster", "net"], arguments, &["--cluster", "demo"]].concat())
    }

    fn links(&self) -> Value {
        let shown = self.net(&["show", "-o", "json"]).printed();
        serde_json::from_str::<Value>(&shown).expect("JSON")["links"].clone()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.switch.kill();
        let _ = self.switch.wait();
    }
}

#[test]
fn links_are_made_slow_cut_and_mended() {
    let cluster = Cluster::new();
    cluster.net(&["delay", "50ms", "cp-1", "worker-1"]).printed();
    cluster.net(&["partition", "worker-1", "--one-way", "--port", "2380"]).printed();
    let table = cluster.net(&["show"]).printed();
    let lines: Vec<String> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "MACHINE SENT RECEIVED LOST",
            "cp-1 0 0 0",
            "worker-1 0 0 0",
            "",
            "FROM TO PORT DELAY LOSS STATE",
            "cp-1 worker-1 all 50ms - open",
            "worker-1 cp-1 all 50ms - open",
            "worker-1 all 2380 - - cut",
        ]
    );
    let error = cluster.net(&["partition", "worker-9"]).complained(2);
    assert!(error.contains("machine: \"worker-9\"; the cluster demo has cp-1, worker-1"), "{error}");
    assert!(cluster.net(&["loss", "200%", "cp-1"]).complained(2).contains("expected a share of frames"));
    cluster.net(&["heal", "cp-1"]).printed();
    assert_eq!(cluster.links().as_array().map(Vec::len), Some(1));
    cluster.net(&["heal"]).printed();
    assert_eq!(cluster.links(), json!([]));
}

#[test]
fn a_cluster_that_is_off_is_shown_and_destroyed() {
    let mut cluster = Cluster::new();
    let home = cluster.home.path().to_owned();
    let shown = machinectl(&home, &["cluster", "show"]).printed();
    assert!(shown.contains("demo      cp-1       stopped   10.5.0.10"), "{shown}");
    let error = machinectl(&home, &["cluster", "console", "cp-1", "--cluster", "demo"]).complained(1);
    assert!(error.contains("cp-1: it was never started"), "{error}");
    let error = machinectl(&home, &["cluster", "remove", "cp-1", "--cluster", "demo", "--yes"]).complained(1);
    assert!(error.contains("cp-1: the only control plane of its cluster; machinectl cluster destroy demo"), "{error}");
    let error = machinectl(&home, &["cluster", "remove", "worker-1", "--cluster", "demo", "--yes"]).complained(1);
    assert!(error.contains("worker-1: it is off, and so cannot leave its cluster; start it first"), "{error}");
    machinectl(&home, &["cluster", "destroy", "demo", "--yes"]).printed();
    assert!(!home.join(".local/share/corten/clusters/demo").exists());
    assert!(cluster.switch.wait().expect("its end").success(), "the switch was told to stop");
}

#[test]
fn control_planes_are_odd_in_number() {
    let home = tempfile::tempdir().expect("temporary directory");
    let error = machinectl(home.path(), &["cluster", "create", "--control-planes", "2"]).complained(2);
    assert!(error.contains("expected 1, 3 or 5"), "{error}");
    assert!(!Path::new(&home.path().join(".local")).exists());
}
