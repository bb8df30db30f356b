//! Trials, damage and reboots, on a temporary STATE and under a clock that the tests move.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use machine::Root;
use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};
use machine::stage::Stage;

use super::{Configs, Current, Found, Generations, Wanted};
use crate::clock::Clock;
use crate::failpoint::Failpoints;
use crate::init_client::InitClient;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::server::testing::{config, config_with_watchdog};
use crate::upgrade::played::cut_after;

struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        Disk { directory: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    /// An agent that starts, in a boot of this name.
    fn agent(&self, boot: &str) -> Arc<Configs> {
        self.agent_with(boot, Failpoints::default())
    }

    fn agent_with(&self, boot: &str, failpoints: Failpoints) -> Arc<Configs> {
        let root = self.root();
        fs::create_dir_all(root.path("/proc/sys/kernel/random")).unwrap();
        fs::write(root.path("/proc/sys/kernel/random/boot_id"), boot).unwrap();
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let state = VolumeStatus { volume: Volume::State, state: VolumeState::Open, size_bytes: 1, device: String::new() };
        node.store.put("state", &state);
        Arc::new(Configs::new(node, Clock::new(&root)).with_failpoints(failpoints))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.root().config_directory().join(name)
    }
}

async fn apply(configs: &Configs, document: String, revert_after: Option<Duration>) -> u64 {
    let wanted = Wanted { document: document.into_bytes(), dry_run: false, revert_after, by: "os:admin/alice".to_owned() };
    configs.apply(wanted).await.unwrap().generation
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_trial_that_nobody_confirms_goes_back_by_itself() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    tokio::spawn(configs.clone().end_trials());
    assert_eq!(apply(&configs, config(), None).await, 1);
    assert_eq!(apply(&configs, config_with_watchdog("90s"), Some(MINUTE)).await, 2);
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(configs.node.config().unwrap().generation, 2);
    let mut config = configs.node.watch_config();
    config.mark_unchanged();
    config.changed().await.unwrap();
    assert_eq!(configs.node.config().unwrap().generation, 1);
    assert_eq!(disk.agent("one").generations.current().unwrap().unwrap().generation, 1);
    // What was tried is kept, and the next config has a number of its own.
    assert_eq!(apply(&configs, config_with_watchdog("80s"), None).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_trial_stays() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    tokio::spawn(configs.clone().end_trials());
    apply(&configs, config(), None).await;
    apply(&configs, config_with_watchdog("90s"), Some(MINUTE)).await;
    assert_eq!(configs.confirm().await.unwrap(), 2);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(configs.node.config().unwrap().generation, 2);
    let rebooted = disk.agent("two");
    assert_eq!(rebooted.load().await.unwrap(), Found::Config);
    assert_eq!(rebooted.node.config().unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_trial_survives_the_agent_and_ends_with_the_boot() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    apply(&configs, config(), None).await;
    apply(&configs, config_with_watchdog("90s"), Some(MINUTE)).await;

    let restarted = disk.agent("one");
    assert_eq!(restarted.load().await.unwrap(), Found::Config);
    assert_eq!(restarted.node.config().unwrap().generation, 2);
    assert!(restarted.trial.borrow().is_some());

    let rebooted = disk.agent("two");
    assert_eq!(rebooted.load().await.unwrap(), Found::Config);
    assert_eq!(rebooted.node.config().unwrap().generation, 1);
    assert!(rebooted.node.events.next(1).unwrap().message.contains("ended a trial"));
    assert!(rebooted.trial.borrow().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_trial_after_a_trial_goes_back_to_what_lasted() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    tokio::spawn(configs.clone().end_trials());
    apply(&configs, config(), None).await;
    apply(&configs, config_with_watchdog("80s"), Some(MINUTE)).await;
    apply(&configs, config_with_watchdog("90s"), Some(MINUTE)).await;
    let mut config = configs.node.watch_config();
    config.mark_unchanged();
    config.changed().await.unwrap();
    assert_eq!(configs.node.config().unwrap().generation, 1);
}

#[tokio::test]
async fn a_damaged_generation_gives_way_to_the_one_before() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    assert_eq!(configs.load().await.unwrap(), Found::Nothing);
    apply(&configs, config(), None).await;
    apply(&configs, config_with_watchdog("90s"), None).await;
    fs::write(disk.file("2.yaml"), "half of").unwrap();
    let rebooted = disk.agent("two");
    assert_eq!(rebooted.load().await.unwrap(), Found::Config);
    assert_eq!((rebooted.node.config().unwrap().generation, rebooted.node.stage()), (1, Stage::Booting));
    assert!(rebooted.node.events.next(1).unwrap().message.contains("damaged"));

    fs::write(disk.file("1.yaml"), "").unwrap();
    let rebooted = disk.agent("three");
    assert_eq!(rebooted.load().await.unwrap(), Found::Unusable);
    assert_eq!((rebooted.node.config().is_none(), rebooted.node.stage()), (true, Stage::Recovery));
}

/// A rollback to an image that knows neither the schema nor the records of a newer one: it runs by what it knows and leaves the rest alone.
#[tokio::test]
async fn what_a_newer_release_wrote_stays_for_it() {
    for (name, text) in [
        ("current", r#"{ "version": 2, "generations": { "inForce": 2 } }"#),
        ("2.json", r#"{ "version": 2, "author": {} }"#),
        ("2.yaml", "apiVersion: corten.dev/v2\nkind: MachineConfig\n"),
    ] {
        let disk = Disk::new();
        let configs = disk.agent("one");
        apply(&configs, config(), None).await;
        let generations = Generations::new(disk.root().config_directory());
        if name == "2.yaml" {
            assert_eq!(generations.add(text, "os:admin/alice", 1).unwrap(), 2);
            generations.point(&Current::lasting(2)).unwrap();
        } else {
            apply(&configs, config_with_watchdog("90s"), None).await;
            fs::write(disk.file(name), text).unwrap();
        }
        let pointer = fs::read_to_string(disk.file("current")).unwrap();
        let older = disk.agent("two");
        assert_eq!(older.load().await.unwrap(), Found::Config, "{name}");
        // Of a pointer that it cannot read it knows nothing: the newest generation is what it has.
        let expected = if name == "current" { 2 } else { 1 };
        assert_eq!((older.node.config().unwrap().generation, older.node.stage()), (expected, Stage::Booting), "{name}");
        assert!(older.node.events.next(1).unwrap().message.contains("a newer release wrote the current generation"), "{name}");
        assert_eq!(fs::read_to_string(disk.file("current")).unwrap(), pointer, "{name}");
        if name != "current" {
            assert_eq!(fs::read_to_string(disk.file(name)).unwrap(), text);
        }
    }
}

#[tokio::test]
async fn a_first_apply_that_was_cut_off_can_be_repeated() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    apply(&configs, config(), None).await;
    // The cut came before `current` was renamed.
    fs::remove_file(disk.file("current")).unwrap();
    fs::write(disk.file(".current.new"), "{").unwrap();
    let rebooted = disk.agent("two");
    assert_eq!(rebooted.load().await.unwrap(), Found::Nothing);
    assert!(!crate::identity::held(&rebooted.node));
    assert_eq!(apply(&rebooted, config(), None).await, 2);
    assert_eq!(disk.agent("three").load().await.unwrap(), Found::Config);
}

#[tokio::test]
async fn nothing_is_applied_that_could_not_be_kept() {
    let disk = Disk::new();
    let configs = disk.agent("one");
    let state = VolumeStatus { volume: Volume::State, state: VolumeState::Closed, size_bytes: 1, device: String::new() };
    configs.node.store.put("state", &state);
    let wanted = Wanted { document: config().into_bytes(), dry_run: false, revert_after: None, by: String::new() };
    assert!(matches!(configs.apply(wanted).await, Err(Refusal::State { reason: "STATE_CLOSED", .. })));
    assert!(configs.node.config().is_none());
}

#[tokio::test]
async fn of_two_strangers_the_second_comes_too_late() {
    let configs = Disk::new().agent("one");
    let wanted = |by: &str, revert_after| Wanted { document: config().into_bytes(), dry_run: false, revert_after, by: by.to_owned() };
    assert!(matches!(configs.apply(wanted("", Some(MINUTE))).await, Err(Refusal::Invalid(_))));
    let (one, two) = tokio::join!(configs.apply(wanted("", None)), configs.apply(wanted("", None)));
    assert_eq!(one.unwrap().generation, 1);
    assert!(matches!(two, Err(Refusal::NotPermitted { .. })));
}

#[tokio::test]
async fn what_waits_for_a_boot_cannot_be_tried() {
    let configs = Disk::new().agent("one");
    apply(&configs, config(), None).await;
    let document = config().replacen("\ncluster:\n", "\ncluster:\n  network: { proxy: { mode: iptables } }\n", 1);
    let wanted =
        |revert_after| Wanted { document: document.clone().into_bytes(), dry_run: false, revert_after, by: "os:admin/alice".to_owned() };
    assert!(
        matches!(configs.apply(wanted(Some(MINUTE))).await, Err(Refusal::Invalid(violations)) if violations[0].field == "revert_after")
    );
    let outcome = configs.apply(wanted(None)).await.unwrap();
    assert!(
        outcome.needs_reboot && outcome.plan.contains(&"cluster.network.proxy.mode takes effect at the next boot".to_owned()),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_change_that_is_cut_anywhere_leaves_one_config_or_the_other_and_can_be_repeated() {
    // As many as are kept: the oldest goes with the next one.
    const BEFORE: u64 = 16;
    let wanted = config_with_watchdog("200s");
    for passed in 0.. {
        let disk = Disk::new();
        let configs = disk.agent("one");
        for number in 0..BEFORE {
            apply(&configs, config_with_watchdog(&format!("{}s", 100 + number)), None).await;
        }
        let (failpoints, reached) = cut_after(passed);
        let configs = disk.agent_with("one", failpoints);
        configs.load().await.unwrap();
        let change = Wanted { document: wanted.clone().into_bytes(), dry_run: false, revert_after: None, by: "os:admin/alice".to_owned() };
        let cut = configs.apply(change).await.is_err();

        let rebooted = disk.agent("two");
        assert_eq!(rebooted.load().await.unwrap(), Found::Config);
        let generation = rebooted.node.config().unwrap().generation;
        assert!([BEFORE, BEFORE + 1].contains(&generation) && (cut || generation == BEFORE + 1), "cut {passed}: {generation}");
        apply(&rebooted, wanted.clone(), None).await;
        assert_eq!(rebooted.document(None).await.unwrap().1, wanted);
        let leftovers = fs::read_dir(rebooted.node.root.config_directory()).unwrap();
        let files = leftovers.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count();
        assert!(files <= 2 * (BEFORE as usize + 1) + 1, "cut {passed}: {files} files");
        if !cut {
            assert_eq!(
                *reached.lock().unwrap(),
                ["config::document-written", "config::record-written", "config::pointed", "config::record-removed"]
            );
            return;
        }
    }
}
