//! Whole installations, and installations that are cut off between any two writes.

use std::io;
use std::sync::{Arc, Mutex};

use machine::stage::Stage;

use super::played::Played;
use crate::clock::Clock;
use crate::config::{Configs, Outcome, Wanted};
use crate::failpoint::Failpoints;
use crate::init_client::InitClient;
use crate::init_events;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::installation::{InstallationStatus, Phase};
use crate::server::testing::{Init, config};

/// A boot from the medium.
struct Boot {
    node: Node,
    init: Init,
    configs: Configs,
}

impl Boot {
    async fn new(played: &Played, failpoints: Failpoints) -> Boot {
        let root = played.root();
        let init = Init::of_medium(&root.init_socket(), played.facts());
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        init_events::ask(&node).await.unwrap();
        let configs = Configs::new(node.clone(), Clock::new(&root)).with_failpoints(failpoints);
        Boot { node, init, configs }
    }

    async fn apply(&self, dry_run: bool) -> Result<Outcome, Refusal> {
        let wanted = Wanted { document: config().into_bytes(), dry_run, revert_after: None, by: String::new() };
        self.configs.apply(wanted).await
    }

    /// Until it has come to an end, good or bad.
    async fn end(&self) -> Stage {
        let ended = async { *self.node.watch_stage().wait_for(|stage| *stage != Stage::Installing).await.unwrap() };
        tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("the installation ends")
    }

    /// What init was asked to do, without what it was asked only.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.init.asked();
        asked.retain(|request| !request.starts_with("Get") && !request.starts_with("List"));
        asked
    }

    fn status(&self) -> InstallationStatus {
        self.node.store.get("vda").unwrap()
    }
}

fn assert_complete(played: &Played) {
    assert!(played.is_filled() && played.is_bootable() && !played.is_marked());
    // A cut may have come between the first generation and its being named: the next one has a number of its own.
    let (number, text) = played.config().unwrap();
    assert!([1, 2].contains(&number) && text == config(), "generation {number}");
    assert_eq!(played.read(&played.variable("BootOrder")).unwrap(), [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 9, 0]);
    for number in 0..4 {
        assert!(played.read(&played.variable(&format!("Boot000{number}"))).unwrap().len() > 100);
    }
}

#[tokio::test]
async fn config_that_is_applied_is_installed_with() {
    let played = Played::new();
    let boot = Boot::new(&played, Failpoints::default()).await;
    let planned = boot.apply(true).await.unwrap();
    assert!(planned.plan[0].starts_with("write a partition table to /dev/vda (ssd, 20.0 GiB"), "{planned:?}");
    assert_eq!((boot.asked(), boot.node.stage()), (Vec::new(), Stage::Maintenance));

    let begun = boot.apply(false).await.unwrap();
    assert_eq!((begun.generation, begun.plan, begun.needs_reboot), (0, planned.plan, false));
    assert_eq!(boot.end().await, Stage::Rebooting);

    assert_complete(&played);
    while boot.asked().len() < 4 {
        tokio::task::yield_now().await;
    }
    let asked = [
        "LayOutDisk { device: \"/dev/vda\", wipe: false }",
        "AdoptDisk { device: \"/dev/vda\" }",
        "OpenVolume(State)",
        "Power { action: Reboot, wipe: [], reason: \"installed on /dev/vda\" }",
    ];
    assert_eq!(boot.asked(), asked);
    assert_eq!((boot.status().phase, boot.status().version.as_str()), (Phase::Installed, "0.1.0"));
    assert!(boot.node.config().is_none(), "the config is for the next boot");
    let again = boot.apply(false).await.unwrap_err().to_string();
    assert_eq!(again, "the machine is being installed already");
}

/// Every cut leaves a disk that cannot be booted and that init lays out anew without leave, or one that can be booted and is whole.
#[tokio::test]
async fn cut_at_each_point() {
    let reached: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let (played, noted) = (Played::new(), reached.clone());
    let note = Failpoints::new(move |name| {
        noted.lock().unwrap().push(name);
        Ok(())
    });
    let boot = Boot::new(&played, note).await;
    boot.apply(false).await.unwrap();
    boot.end().await;
    let points = reached.lock().unwrap().clone();
    assert!(points.len() > 10 && points.last() == Some(&"install::completed"), "{points:?}");

    for (cut, name) in points.iter().enumerate() {
        let played = Played::new();
        let passed = Mutex::new(0);
        let plan = move |_: &'static str| {
            let mut passed = passed.lock().unwrap();
            *passed += 1;
            if *passed > cut { Err(io::Error::other("power cut")) } else { Ok(()) }
        };
        let boot = Boot::new(&played, Failpoints::new(plan)).await;
        boot.apply(false).await.unwrap();
        assert_eq!(boot.end().await, Stage::Maintenance, "{name}");
        assert_eq!(boot.status().phase, Phase::Failed);
        assert!(boot.status().message.contains("power cut"), "{}", boot.status().message);
        match played.is_bootable() {
            true => assert!(played.is_filled() && played.config() == Some((1, config())), "{name}"),
            false => assert!(played.is_marked(), "{name}"),
        }
        assert!(!boot.asked().iter().any(|request| request.starts_with("Power")), "{name}");

        let next = Boot::new(&played, Failpoints::default()).await;
        next.apply(false).await.unwrap();
        assert_eq!(next.end().await, Stage::Rebooting, "{name}");
        assert_complete(&played);
    }
}

/// init gives a machine no second disk: what failed after the first was adopted goes on there.
#[tokio::test]
async fn what_failed_late_goes_on_in_the_same_boot() {
    let played = Played::new();
    let failed = Mutex::new(false);
    let once = move |name: &'static str| {
        let first = name == "install::config-kept" && !std::mem::replace(&mut *failed.lock().unwrap(), true);
        if first { Err(io::Error::other("no space left")) } else { Ok(()) }
    };
    let boot = Boot::new(&played, Failpoints::new(once)).await;
    boot.apply(false).await.unwrap();
    assert_eq!(boot.end().await, Stage::Maintenance);
    let going_on = boot.apply(false).await.unwrap();
    assert!(going_on.plan[0].starts_with("go on with the installation on /dev/vda"), "{going_on:?}");
    assert_eq!(boot.end().await, Stage::Rebooting);
    assert_complete(&played);
    assert_eq!(boot.asked().iter().filter(|request| request.starts_with("LayOutDisk")).count(), 1);
}

#[tokio::test]
async fn firmware_that_keeps_nothing_is_only_told_of() {
    let played = Played::new();
    std::fs::remove_dir_all(played.root().path("/sys/firmware")).unwrap();
    let boot = Boot::new(&played, Failpoints::default()).await;
    boot.apply(false).await.unwrap();
    assert_eq!(boot.end().await, Stage::Rebooting);
    assert!(played.is_bootable() && !played.is_marked());
    let console = String::from_utf8(played.read("/dev/console").unwrap()).unwrap();
    assert!(console.contains("registering the disk with the firmware: reading"), "{console}");
}

#[tokio::test]
async fn medium_without_all_files_installs_nothing() {
    let played = Played::new();
    std::fs::remove_file(played.root().path("/run/corten/medium/corten/uki.efi")).unwrap();
    let boot = Boot::new(&played, Failpoints::default()).await;
    let refused = boot.apply(false).await.unwrap_err().to_string();
    assert!(refused.contains("corten/uki.efi: No such file"), "{refused}");
    assert_eq!((boot.asked(), boot.node.stage()), (Vec::new(), Stage::Maintenance));
}
