//! The checks over a board that is filled step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use controlplane::bootstrap::Record;
use machine::Root;
use machine::protocol::VolumeStatus;
use machine::service::ServiceId;

use super::*;
use crate::init_client::InitClient;
use crate::node::Applied;
use crate::resources::bootstrap::Bootstrap;

fn configured(root: &Root) -> Node {
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let config = machine::config::load(crate::server::testing::config(), "test").unwrap();
    node.set_config(Applied { generation: 3, config: Arc::new(config) });
    node.happened(StageEvent::ConfigInForce);
    node
}

fn open(node: &Node, volume: Volume, state: VolumeState) {
    let status = VolumeStatus { volume, state, size_bytes: 1, device: String::new() };
    node.store.put(&services::volume_name(volume), &status);
}

fn service(node: &Node, id: &str, state: ServiceState) {
    let status = ServiceStatus {
        id: ServiceId::new(id).unwrap(),
        state,
        pid: None,
        restarts: 0,
        last_exit: None,
        since_boot: std::time::Duration::ZERO,
    };
    node.store.put(id, &status);
}

fn failing(node: &Node) -> BTreeMap<&'static str, String> {
    checks(node).into_iter().filter(|(_, check)| !check.passed).map(|(name, check)| (name, check.message)).collect()
}

/// Everything that a running control plane has.
fn fill(node: &Node) {
    Volume::ALL.into_iter().for_each(|volume| open(node, volume, VolumeState::Open));
    ["nodeagent", "containerd", "etcd", "kubelet"].into_iter().for_each(|id| service(node, id, ServiceState::Ready));
    let record = Bootstrap { record: Record::started("demo", "cp-1"), at: 1, by: String::new() };
    node.store.put(Bootstrap::NAME, &record);
    let server = ApiServer { address: "127.0.0.1:6443".parse().unwrap(), ready: true, local: true, error: String::new() };
    node.store.put("127.0.0.1:6443", &server);
    node.store.put("cp-1", &NodeStatus { ready: true, ..NodeStatus::default() });
}

#[test]
fn each_check_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let node = configured(&Root::new(directory.path()));
    assert_eq!(failing(&node).len(), CHECKS.len() - 1, "controllers alone have nothing to say yet");
    assert!(failing(&node)["etcd"].contains("bootstrap"));
    fill(&node);
    assert_eq!(failing(&node), BTreeMap::new());

    open(&node, Volume::Etcd, VolumeState::Broken { reason: "superblock".to_owned() });
    service(&node, "kubelet", ServiceState::Waiting { after: vec![ServiceId::new("containerd").unwrap()] });
    let status =
        ControllerStatus { state: ControllerState::Failed, waits_for: Vec::new(), error: "no such link".to_owned(), generation: 0 };
    node.store.put("network", &status);
    node.store.put("cp-1", &NodeStatus { ready: false, message: "cni is not ready".to_owned(), ..NodeStatus::default() });
    let told = failing(&node);
    assert_eq!(told["volumes"], "ETCD is broken: superblock");
    assert_eq!(told["kubelet"], "kubelet waits for containerd");
    assert_eq!(told["services"], "kubelet waits for containerd");
    assert_eq!(told["controllers"], "network: no such link");
    assert_eq!(told["node"], "it is not Ready: cni is not ready");
}

#[tokio::test]
async fn a_machine_runs_once_all_checks_pass() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    std::fs::create_dir_all(root.path("/dev")).unwrap();
    std::fs::write(root.path("/dev/console"), "").unwrap();
    let node = configured(&root);
    tokio::spawn(watch(node.clone()));
    let mut stages = node.watch_stage();
    let mut board = node.store.revision();
    while node.store.get::<MachineStatus>(MachineStatus::NAME).is_none() {
        board.changed().await.unwrap();
    }
    fill(&node);
    stages.wait_for(|stage| *stage == Stage::Running).await.unwrap();
    // What fails later is seen in the health; the stage does not go back.
    service(&node, "kubelet", ServiceState::Starting);
    while node.store.get::<Check>("kubelet").is_none_or(|check| check.passed) {
        board.changed().await.unwrap();
    }
    assert_eq!(node.stage(), Stage::Running);
    let console = std::fs::read_to_string(root.path("/dev/console")).unwrap();
    assert!(console.starts_with("corten: stage maintenance -> booting\ncorten: booting, waits for volumes: STATE"), "{console}");
    assert!(console.ends_with("corten: stage booting -> running\n"), "{console}");
}
