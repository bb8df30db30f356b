//! The gate at work: on a played disk whose ESP is a directory, with an init that is played as well.

use std::fs;
use std::sync::Arc;

use machine::Root;
use machine::config::{HealthCheck, TcpCheck};
use machine::disk::{Slot, Volume};
use machine::protocol::{BootFacts, ImageFacts, VolumeState, VolumeStatus};
use tokio::net::TcpListener;

use super::*;
use crate::config::{Current, Generations};
use crate::failpoint::Failpoints;
use crate::init_client::InitClient;
use crate::node::Applied;
use crate::resources::services::volume_name;
use crate::server::testing::Init;
use crate::stage::StageEvent;
use crate::upgrade::phase::Phase;
use crate::upgrade::records::{Record, Records};

const MINUTE: Duration = Duration::from_secs(60);

/// A machine whose slot B is on trial.
struct Trial {
    root: Root,
    node: Node,
    init: Init,
    listener: TcpListener,
    _directory: tempfile::TempDir,
}

impl Trial {
    async fn new() -> Trial {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let partition = root.path("/sys/class/block/vda/vda1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("uevent"), "DEVNAME=vda1\nPARTNAME=ESP\n").unwrap();
        fs::create_dir_all(root.path("/dev/vda1/loader/entries")).unwrap();
        let image = ImageFacts {
            version: "0.2.0".to_owned(),
            profile: "bare".to_owned(),
            architecture: "x86_64".to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            built_at: 0,
            partitions: Vec::new(),
        };
        fs::create_dir_all(root.image_facts().parent().unwrap()).unwrap();
        fs::write(root.image_facts(), serde_json::to_vec(&image).unwrap()).unwrap();
        let init = Init::start(&root.init_socket(), VolumeState::Open);
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let facts = BootFacts {
            boot_id: "this boot".to_owned(),
            disk: "/dev/vda".to_owned(),
            slot: Some(Slot::B),
            root_hash: "ab".repeat(32),
            counted: true,
            ..BootFacts::default()
        };
        node.store.put("this boot", &facts);
        let state = VolumeStatus { volume: Volume::State, state: VolumeState::Open, size_bytes: 1, device: String::new() };
        node.store.put(&volume_name(Volume::State), &state);
        let trial = Trial { root, node, init, listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), _directory: directory };
        trial.entry("corten-a.conf", 1);
        trial.entry("corten-b+2-1.conf", 2);
        trial
    }

    fn entry(&self, name: &str, sequence: u64) {
        let slot = &name[7..8];
        let text = format!("title Corten\nversion {sequence}\nsort-key corten\nefi /corten/{slot}.efi\n");
        fs::write(self.root.path("/dev/vda1/loader/entries").join(name), text).unwrap();
    }

    fn entries(&self) -> Vec<String> {
        let files = fs::read_dir(self.root.path("/dev/vda1/loader/entries")).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn records(&self) -> Records {
        Records::new(self.root.upgrade_records())
    }

    /// The upgrade that led here.
    fn record(&self) -> Record {
        let record = Record { phase: Phase::Proving, boot_id: "this boot".to_owned(), ..crate::upgrade::fixtures::record(1) };
        self.records().put(&record).unwrap();
        record
    }

    /// Generation 3 is what the image before ran with, 4 is in force.
    fn configure(&self, checks: Vec<HealthCheck>) {
        let generations = Generations::new(self.root.config_directory());
        for _ in 1..=4 {
            generations.add("document", "", 0).unwrap();
        }
        generations.point(&Current::lasting(4)).unwrap();
        let mut config = machine::config::load(crate::server::testing::config(), "test").unwrap();
        config.machine.health.checks = checks;
        self.node.set_config(Applied { generation: 4, config: Arc::new(config) });
        self.node.happened(StageEvent::ConfigInForce);
    }

    fn generation(&self) -> u64 {
        Generations::new(self.root.config_directory()).current().unwrap().unwrap().generation
    }

    /// A gate in an agent that starts so long after the boot.
    fn gate(&self, since_boot: Duration) -> Gate {
        let power = Power::new(self.node.clone());
        let upgrades = Arc::new(Upgrades::new(self.node.clone(), power.clone(), Failpoints::default()));
        let mut gate = Gate::new(self.node.clone(), upgrades, power, Clock::started_at(since_boot));
        gate.api = self.listener.local_addr().unwrap();
        gate
    }

    fn status(&self) -> GateStatus {
        self.node.store.get(GateStatus::NAME).unwrap()
    }

    /// What init heard of the proof, and of power.
    fn heard(&self) -> Vec<String> {
        self.init.asked().into_iter().filter(|asked| asked.starts_with("ProveBoot") || asked.starts_with("Power")).collect()
    }
}

const BEFORE: Before = Before { reachable: true, pods_started: true };
const GOOD: &str = "ProveBoot(Good)";
const PENDING: &str = "ProveBoot(Pending { within: 120s })";

fn good_since(good_since: Duration) -> State {
    State::Watching { good_since: Some(good_since), vouched_at: good_since }
}

fn closed(address: SocketAddr) -> HealthCheck {
    let tcp = Some(TcpCheck { address: address.to_string() });
    HealthCheck { name: Some("web".to_owned()), http: None, tcp, pod: None, timeout: machine::config::Duration(MINUTE) }
}

async fn nobody_listens() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_image_that_holds_is_kept() {
    let trial = Trial::new().await;
    trial.record();
    let mut gate = trial.gate(2 * MINUTE);
    let state = gate.round(State::new(Duration::ZERO), BEFORE).await;
    assert!(matches!(state, State::Watching { good_since: Some(_), .. }), "{state:?}");
    assert_eq!(
        (trial.heard(), trial.entries()),
        (vec![PENDING.to_owned()], vec!["corten-a.conf".to_owned(), "corten-b+2-1.conf".to_owned()])
    );

    assert_eq!(gate.round(good_since(MINUTE), BEFORE).await, State::Blessed);
    assert_eq!(trial.entries(), ["corten-a.conf", "corten-b.conf"]);
    assert_eq!(trial.heard(), [PENDING, GOOD]);
    assert_eq!(trial.records().list().unwrap()[0].phase, Phase::Blessed);
    assert_eq!(trial.status().state, "blessed");
}

#[tokio::test]
async fn an_image_that_fails_leaves_its_reason_and_the_config_of_before() {
    let trial = Trial::new().await;
    trial.record();
    trial.configure(vec![closed(nobody_listens().await)]);
    let mut gate = trial.gate(10 * MINUTE);
    let state = gate.round(good_since(9 * MINUTE), BEFORE).await;
    assert!(matches!(state, State::Watching { good_since: None, .. }), "{state:?}");
    assert!(trial.status().waits_for[0].starts_with("web: connecting to 127.0.0.1:"), "{:?}", trial.status());

    let mut gate = trial.gate(15 * MINUTE);
    assert_eq!(gate.round(state, BEFORE).await, State::Failed);
    let record = trial.records().list().unwrap().pop().unwrap();
    let reason = record.reason.unwrap();
    assert_eq!((record.phase, reason.check.as_str()), (Phase::Failed, "web"));
    assert!(reason.message.starts_with("connecting to 127.0.0.1:"), "{}", reason.message);
    assert_eq!(trial.generation(), 3);
    assert!(trial.entries()[1].starts_with("corten-b+0-"), "{:?}", trial.entries());
    let heard = trial.heard();
    assert_eq!(heard[..2], [PENDING, PENDING]);
    assert!(
        heard[2].contains("action: Reboot, wipe: []") && heard[2].contains("the image on trial is not good: web: connecting"),
        "{heard:?}"
    );
    assert_eq!(trial.node.stage(), Stage::Rebooting);
}

#[tokio::test]
async fn a_trial_without_a_record_is_decided_as_well() {
    let trial = Trial::new().await;
    assert_eq!(trial.gate(2 * MINUTE).round(good_since(MINUTE), BEFORE).await, State::Blessed);
    assert_eq!(trial.entries(), ["corten-a.conf", "corten-b.conf"]);

    let trial = Trial::new().await;
    trial.configure(vec![closed(nobody_listens().await)]);
    assert_eq!(trial.gate(15 * MINUTE).round(State::new(Duration::ZERO), BEFORE).await, State::Failed);
    assert!(trial.entries()[1].starts_with("corten-b+0-") && trial.generation() == 4, "{:?}", trial.entries());
    assert!(trial.heard()[1].starts_with("Power"));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_called_good() {
    let trial = Trial::new().await;
    let record = trial.record();
    fs::remove_dir_all(trial.root.path("/dev/vda1/loader")).unwrap();
    fs::write(trial.root.path("/dev/vda1/loader"), "a file where the directory should be").unwrap();
    let mut gate = trial.gate(2 * MINUTE);
    assert_eq!(gate.round(good_since(MINUTE), BEFORE).await, good_since(MINUTE));
    assert_eq!((trial.heard(), trial.records().list().unwrap()), (Vec::new(), vec![record]));
}

#[tokio::test]
async fn an_image_that_somebody_gave_up_is_not_kept() {
    let trial = Trial::new().await;
    trial.record();
    let mut gate = trial.gate(2 * MINUTE);
    let reason = crate::upgrade::records::Reason { check: "rollback".to_owned(), ..Default::default() };
    gate.upgrades.fail(reason).await.unwrap();
    assert_eq!(gate.round(good_since(MINUTE), BEFORE).await, good_since(MINUTE));
    assert_eq!((trial.heard(), trial.records().list().unwrap()[0].phase), (Vec::new(), Phase::Failed));
    assert!(trial.entries()[1].starts_with("corten-b+0-"), "{:?}", trial.entries());
}

#[tokio::test]
async fn the_api_and_state_are_asked_of_every_machine() {
    let mut trial = Trial::new().await;
    let broken = VolumeState::Broken { reason: "superblock".to_owned() };
    let state = VolumeStatus { volume: Volume::State, state: broken, size_bytes: 1, device: String::new() };
    trial.node.store.put(&volume_name(Volume::State), &state);
    trial.listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut gate = trial.gate(MINUTE);
    gate.api = nobody_listens().await;
    gate.round(State::new(MINUTE), BEFORE).await;
    let waits_for = trial.status().waits_for;
    assert_eq!(waits_for[0], "state: the STATE volume is broken: superblock");
    assert!(waits_for[1].starts_with("api: connecting to"), "{waits_for:?}");
}

#[tokio::test]
async fn an_agent_that_starts_after_the_image_was_kept_tells_init_again() {
    let trial = Trial::new().await;
    fs::remove_file(trial.root.path("/dev/vda1/loader/entries/corten-b+2-1.conf")).unwrap();
    trial.entry("corten-b.conf", 2);
    trial.gate(MINUTE).run().await;
    assert_eq!((trial.heard(), trial.entries()), (vec![GOOD.to_owned()], vec!["corten-a.conf".to_owned(), "corten-b.conf".to_owned()]));
}

#[tokio::test]
async fn a_boot_that_is_no_trial_is_left_alone() {
    let trial = Trial::new().await;
    trial
        .node
        .store
        .put("this boot", &BootFacts { counted: false, disk: "/dev/vda".to_owned(), slot: Some(Slot::A), ..BootFacts::default() });
    trial.gate(20 * MINUTE).run().await;
    assert_eq!(trial.init.asked(), Vec::<String>::new());
    assert_eq!(trial.node.store.get::<GateStatus>(GateStatus::NAME), None);
}

#[test]
fn the_reason_has_the_end_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    fs::create_dir_all(root.log_directory()).unwrap();
    let lines: String = (1..=50).map(|line| format!("line {line}\n")).collect();
    fs::write(root.log_directory().join("kubelet.log"), lines + &"x".repeat(5000)).unwrap();
    let failing = Observation {
        check: "node".to_owned(),
        verdict: Verdict::Failing("it is not Ready".to_owned()),
        service: Some("kubelet".to_owned()),
    };
    let reason = reason::of(&root, &failing, 0);
    assert_eq!((reason.message.as_str(), reason.log_tail.len()), ("it is not Ready", 20));
    assert_eq!((reason.log_tail[0].as_str(), reason.log_tail[19].len()), ("line 32", 1024));
    let boots = "2026-11-25T03:22:38.639714Z of the image before\n2026-11-25T03:24:00.000001Z of this one\n  and more of it\n";
    fs::write(root.log_directory().join("kubelet.log"), boots).unwrap();
    let of_this_boot = ["2026-11-25T03:24:00.000001Z of this one", "  and more of it"];
    // 03:23:00
    assert_eq!(reason::of(&root, &failing, 1_795_576_980).log_tail, of_this_boot);
    let silent = reason::of(&root, &Observation { service: Some("etcd".to_owned()), ..failing }, 0);
    assert_eq!(silent.log_tail, Vec::<String>::new());
}
