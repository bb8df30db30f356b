//! Whole upgrades on a played machine: each way that they may end, and a cut at each of their points.

use std::collections::BTreeSet;
use std::fs;

use controlplane::bootstrap;
use machine::disk::Slot;
use machine::version::Minor;
use update::{Base, Header, MAX_BASE_BYTES, PartName, SigningKey, Version};

use super::phase::Phase;
use super::played::{Boot, Disk, Image, Update, asked, cut_after, key};
use super::records::{Kind, Reason};
use super::restraint::{self, Restraint};
use super::upload::Sent;
use crate::clock::Clock;
use crate::config::{Configs, Found};
use crate::controllers::fixtures::machine;
use crate::failpoint::Failpoints;
use crate::node::Applied;
use crate::refusal::Refusal;
use crate::resources::bootstrap::Bootstrap;

fn old() -> Image {
    Image::new("0.1.0")
}

fn new() -> Image {
    Image::new("0.2.0")
}

pub fn reason(result: Result<impl std::fmt::Debug, Refusal>) -> (&'static str, String) {
    match result {
        Err(Refusal::State { reason, problem, .. }) => (reason, problem),
        Err(Refusal::Invalid(violations)) => ("INVALID", format!("{}: {}", violations[0].field, violations[0].description)),
        other => panic!("{other:?}"),
    }
}

fn broken() -> Reason {
    Reason { check: "kubelet".to_owned(), message: "it does not run".to_owned(), log_tail: vec!["panic".to_owned()] }
}

#[tokio::test]
async fn an_image_comes_proves_itself_and_stays() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let update = new.update();
    let boot = disk.boot(&[&old]).await;
    let offered = boot.offer(&update).await.unwrap();
    let all = update.signed().peek().distinct_chunks().len();
    assert!(!offered.missing.is_empty() && offered.missing.len() < all, "{} of {all} chunks are missing", offered.missing.len());
    assert!(offered.missing_bytes < offered.total_bytes && !offered.running);
    assert_eq!(boot.send(&update).await.unwrap(), offered.missing.len() as u64);
    assert_eq!((disk.entries(), disk.next_slot()), (vec!["corten-a.conf".to_owned()], Slot::A));
    let done = boot.start(&update).await.unwrap();
    assert_eq!((done.phase, done.message.as_str(), done.reboot), (Phase::Booting, "rebooting into 0.2.0", true));
    assert_eq!(disk.entries(), ["corten-a.conf", "corten-b+3.conf"]);
    assert!(disk.holds(Slot::B, &new) && disk.holds(Slot::A, &old));

    let boot = disk.boot(&[&old, &new]).await;
    assert_eq!((boot.slot, boot.counted), (Slot::B, true));
    let record = boot.upgrades.on_trial().await.unwrap();
    assert_eq!((record.phase, record.boots, record.generation, record.to_slot), (Phase::Proving, 1, 1, Slot::B));
    assert_eq!(reason(boot.offer(&Image::new("0.3.0").update()).await).0, "ON_TRIAL");
    boot.upgrades.bless().await.unwrap();
    assert_eq!(disk.entries(), ["corten-a.conf", "corten-b.conf"]);
    assert_eq!((boot.record().await.phase, boot.upgrades.on_trial().await), (Phase::Blessed, None));
    let status = boot.slot_status(Slot::B);
    assert_eq!((status.version.as_str(), status.blessed, status.running, status.generation), ("0.2.0", true, true, 1));
    assert_eq!((boot.slot_status(Slot::A).version.as_str(), boot.slot_status(Slot::A).generation), ("0.1.0", 1));

    // It runs already; the next one is written over what is not needed any more.
    let boot = disk.boot(&[&old, &new]).await;
    assert_eq!((boot.slot, boot.counted), (Slot::B, false));
    assert!(boot.offer(&update).await.unwrap().running);
    let newest = Image::new("0.3.0");
    boot.upgrade(&newest.update()).await.unwrap();
    assert!(disk.holds(Slot::A, &newest));
    assert_eq!(disk.boot(&[&newest]).await.slot, Slot::A);
}

/// Boots until an image is in force, as a machine does by itself, with a gate that finds every image good.
pub async fn settled(disk: &Disk, images: &[&Image]) -> Boot {
    let boot = disk.boot(images).await;
    if boot.counted {
        boot.upgrades.bless().await.unwrap();
    }
    boot
}

/// The steps of an upgrade through all boots, until a cut comes. `true`: none came.
async fn uncut(disk: &Disk, images: &[&Image], update: &Update, failpoints: Failpoints) -> bool {
    let work = async {
        let boot = disk.boot_with(images, failpoints.clone()).await;
        boot.upgrade(update).await?;
        let boot = disk.boot_with(images, failpoints).await;
        boot.upgrades.bless().await
    };
    work.await.is_ok()
}

/// Blocks of 4 KiB in which two states of a slot's parts differ, as bytes of each part; blocks that only one has count.
pub fn differing(before: &[Vec<u8>; 3], after: &[Vec<u8>; 3]) -> [u64; 3] {
    let block = |bytes: &[u8], at: usize| bytes.get(at..).map(|rest| rest[..rest.len().min(4096)].to_vec());
    std::array::from_fn(|part| {
        let (before, after) = (&before[part], &after[part]);
        (0..after.len()).step_by(4096).filter(|at| block(before, *at) != block(after, *at)).count() as u64 * 4096
    })
}

#[tokio::test]
async fn no_block_is_written_that_does_not_change() {
    let (old, new, newest) = (old(), new(), Image::new("0.3.0"));
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    boot.upgrade(&new.update()).await.unwrap();
    let everything: u64 = new.parts().into_iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let record = boot.record().await;
    assert!(record.written_bytes <= everything && record.written_bytes > everything - 4096, "an empty slot: {}", record.written_bytes);
    settled(&disk, &[&old, &new]).await;

    // The slot holds the image of two releases before: little differs, and less than the chunks in which it lies.
    let before = disk.read(Slot::A);
    let boot = disk.boot(&[&old, &new]).await;
    let offered = boot.offer(&newest.update()).await.unwrap();
    boot.upgrade(&newest.update()).await.unwrap();
    let changed: u64 = differing(&before, &disk.read(Slot::A)).into_iter().sum();
    let written = boot.record().await.written_bytes;
    assert!(
        disk.holds(Slot::A, &newest) && written > 0 && written <= changed,
        "{written} bytes written; blocks of {changed} bytes changed"
    );
    assert!(changed < offered.missing_bytes, "{changed} bytes of blocks in chunks of {}", offered.missing_bytes);
}

/// Cuts at each point in turn; the names of the points.
async fn cut_anywhere(old: Image, new: Image) -> BTreeSet<&'static str> {
    let (images, update) = ([&old, &new], new.update());
    let mut names = BTreeSet::new();
    for passed in 0.. {
        let disk = Disk::configured(&old);
        let (failpoints, reached) = cut_after(passed);
        let done = uncut(&disk, &images, &update, failpoints).await;
        names.extend(reached.lock().unwrap().iter().copied());
        let place = reached.lock().unwrap().last().copied().unwrap_or_default();
        // The played boot itself checks that what it boots is whole.
        let boot = settled(&disk, &images).await;
        assert_eq!(disk.generation(), 1, "{place}");
        if boot.slot == Slot::A {
            boot.upgrade(&update).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(settled(&disk, &images).await.slot, Slot::B, "{place}");
        }
        let boot = settled(&disk, &images).await;
        assert_eq!((boot.slot, boot.counted, boot.record().await.phase), (Slot::B, false, Phase::Blessed), "{place}");
        assert_eq!(disk.entries(), ["corten-a.conf", "corten-b.conf"], "{place}");
        if done {
            break;
        }
    }
    names
}

#[tokio::test]
async fn a_cut_anywhere_leaves_the_old_or_the_new_and_can_be_gone_on_with() {
    let names = cut_anywhere(old(), new()).await;
    for name in ["offer::recorded", "slot::chunk-written", "start::recorded", "esp::entry-renamed", "start::flipped", "bless::slot-noted"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

#[tokio::test]
async fn a_cut_while_the_hash_tree_is_made_as_well() {
    let names = cut_anywhere(Image::hashed("0.1.0"), Image::hashed("0.2.0")).await;
    assert!(names.contains("slot::hashes-written") && names.contains("slot::chunk-written"), "{names:?}");
}

#[tokio::test]
async fn an_image_that_fails_goes_together_with_its_config() {
    let (old, new) = (old(), new());
    let (images, update) = ([&old, &new], new.update());
    let disk = Disk::configured(&old);
    disk.boot(&images).await.upgrade(&update).await.unwrap();
    let boot = disk.boot(&images).await;
    disk.add_generation();
    boot.upgrades.fail(broken()).await.unwrap();
    assert_eq!((disk.generation(), disk.next_slot()), (1, Slot::A));
    let boot = disk.boot(&images).await;
    let record = boot.record().await;
    assert_eq!((record.phase, record.reason, boot.slot), (Phase::Failed, Some(broken()), Slot::A));
    assert!(boot.node.events.next(0).unwrap().message.contains("upgrade to 0.2.0 failed: kubelet: it does not run"));

    // Not again by itself, but when somebody says so.
    let (word, text) = reason(boot.offer(&update).await);
    assert_eq!((word, text.as_str()), ("FAILED_BEFORE", "version 0.2.0 failed on this machine before: kubelet: it does not run"));
    boot.upgrades.offer(super::offer::Wanted { retry_failed: true, ..update.wanted() }).await.unwrap();
    boot.start(&update).await.unwrap();
    settled(&disk, &images).await;
    assert_eq!(boot.record().await.phase, Phase::Blessed);
}

#[tokio::test]
async fn a_cut_while_it_is_given_up_ends_on_the_old_image_and_config() {
    let (old, new) = (old(), new());
    let (images, update) = ([&old, &new], new.update());
    for passed in 0.. {
        let disk = Disk::configured(&old);
        disk.boot(&images).await.upgrade(&update).await.unwrap();
        let boot = disk.boot(&images).await;
        disk.add_generation();
        let (failpoints, reached) = cut_after(passed);
        let cut = disk.agent(&images, boot.slot, true, failpoints).await;
        let done = cut.upgrades.fail(broken()).await.is_ok();
        let place = reached.lock().unwrap().last().copied().unwrap_or_default();
        // Whatever boots: in the new image the gate fails again.
        let mut boot = disk.boot(&images).await;
        while boot.slot == Slot::B {
            boot.upgrades.fail(broken()).await.unwrap();
            boot = disk.boot(&images).await;
        }
        let record = boot.record().await;
        assert_eq!((record.phase, record.reason.map(|reason| reason.check)), (Phase::Failed, Some("kubelet".to_owned())), "{place}");
        assert_eq!((disk.generation(), boot.slot), (1, Slot::A), "{place}");
        if done {
            assert!(passed > 5, "{:?}", reached.lock().unwrap());
            return;
        }
    }
}

#[tokio::test]
async fn an_image_that_never_gets_as_far_as_its_agent() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    disk.boot(&[&old]).await.upgrade(&new.update()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(disk.boot_in_vain(), Slot::B);
    }
    fs::create_dir_all(disk.root().path("/sys/fs/pstore")).unwrap();
    fs::write(disk.root().path("/sys/fs/pstore/dmesg-ramoops-0"), "Panic#1 Part1\n<0>Kernel panic - not syncing\n").unwrap();
    let boot = disk.boot(&[&old, &new]).await;
    let record = boot.record().await;
    let told = record.reason.unwrap();
    assert_eq!((boot.slot, record.phase, record.boots), (Slot::A, Phase::Failed, 3));
    assert_eq!(told.message, "the new image did not come up: 3 boots, the last ended in a crash of the kernel: Kernel panic - not syncing");
    assert_eq!(told.log_tail, ["<0>Kernel panic - not syncing"]);
    // It may be written over at once.
    boot.send(&Image::new("0.3.0").update()).await.unwrap();
}

/// What the new image is held to, for as long as it is on trial; and what has to be taken back before the old one may follow it again.
#[tokio::test]
async fn versions_of_kubernetes_and_etcd_follow_the_trial() {
    let image =
        |version, kubernetes: &str, etcd: &str| Image { kubernetes: kubernetes.to_owned(), etcd: etcd.to_owned(), ..Image::new(version) };
    let (old, new) = (image("0.1.0", "v1.36.4", "v3.6.9"), image("0.2.0", "v1.37.1", "v3.7.3"));
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    assert_eq!(restraint::observe(&boot.node), Restraint::default());
    boot.upgrade(&new.update()).await.unwrap();
    let boot = disk.boot(&[&old, &new]).await;
    let minor = |major, minor| Some(Minor { major, minor });
    assert_eq!(restraint::observe(&boot.node), Restraint { kubernetes: minor(1, 36), etcd: minor(3, 6) });
    boot.upgrades.bless().await.unwrap();
    assert_eq!(restraint::observe(&boot.node), Restraint::default());
    let slots = [Slot::A, Slot::B].map(|slot| boot.slot_status(slot).kubernetes);
    assert_eq!(slots, ["v1.36.4", "v1.37.1"]);

    // A control plane's etcd has to go back first. This one does not answer.
    boot.node.set_config(Applied { generation: 1, config: machine("controlplane").config });
    let bootstrapped = Bootstrap { record: bootstrap::Record::started("demo", "cp-1"), at: 1, by: String::new() };
    boot.node.store.put(Bootstrap::NAME, &bootstrapped);
    let entries = disk.entries();
    tokio::time::pause();
    let (word, text) = reason(boot.rollback().await);
    assert!(word == "ETCD_NOT_HELD" && text.contains("readable to etcd 3.6"), "{word}: {text}");
    assert_eq!((disk.entries(), boot.record().await.phase), (entries, Phase::Cancelled));
    // Where there is no etcd, there is nothing to wait for.
    boot.node.store.remove::<Bootstrap>(Bootstrap::NAME);
    boot.rollback().await.unwrap();
    assert_eq!(disk.next_slot(), Slot::A);
}

/// What `reset` leaves: the image that was kept last, without a config, without records, and as ready for an upgrade as a new one.
#[tokio::test]
async fn a_reset_comes_back_to_the_installed_image() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    disk.boot(&[&old]).await.upgrade(&new.update()).await.unwrap();
    disk.boot(&[&old, &new]).await.upgrades.bless().await.unwrap();
    let entries = disk.entries();
    // init makes STATE anew.
    fs::remove_dir_all(disk.root().state()).unwrap();

    let boot = disk.boot(&[&old, &new]).await;
    assert_eq!((boot.slot, boot.counted, disk.entries()), (Slot::B, false, entries));
    assert_eq!(Configs::new(boot.node.clone(), Clock::new(&disk.root())).load().await.unwrap(), Found::Nothing);
    assert!(boot.upgrades.newest().await.is_none() && boot.upgrades.on_trial().await.is_none());
    let (running, before) = (boot.slot_status(Slot::B), boot.slot_status(Slot::A));
    assert_eq!((running.version.as_str(), running.generation, running.blessed), ("0.2.0", 0, true));
    // Of the other slot the boot loader's entry alone is left to tell.
    assert_eq!((before.version.as_str(), before.root_hash.as_str()), ("0.1.0", ""));
    assert_eq!(reason(boot.rollback().await).0, "NOTHING_TO_ROLL_BACK_TO");
    boot.upgrade(&Image::new("0.3.0").update()).await.unwrap();
    assert_eq!(disk.entries(), ["corten-a+3.conf", "corten-b.conf"]);
}

/// A control plane whose etcd does not answer: nothing is tried without its data saved, unless somebody says so, and then the record does.
#[tokio::test]
async fn an_etcd_that_does_not_answer() {
    let (old, update) = (old(), new().update());
    let disk = Disk::new(&old);
    let boot = disk.boot(&[&old]).await;
    boot.node.set_config(Applied { generation: 1, config: machine("controlplane").config });
    let bootstrapped = Bootstrap { record: bootstrap::Record::started("demo", "cp-1"), at: 1, by: String::new() };
    boot.node.store.put(Bootstrap::NAME, &bootstrapped);
    boot.send(&update).await.unwrap();
    let Err(Refusal::State { reason: "NO_SNAPSHOT", remedy, .. }) = boot.start(&update).await else { panic!("it is refused") };
    assert!(remedy.contains("--without-snapshot"), "{remedy}");
    assert_eq!((disk.entries(), boot.record().await.without_snapshot), (vec!["corten-a.conf".to_owned()], false));

    let without = super::work::Asked { without_snapshot: true, ..asked() };
    let plan = boot.upgrades.plan_start(&update.id(), &without).await.unwrap();
    assert!(plan.iter().any(|line| line.starts_with("save nothing of etcd's data")), "{plan:?}");
    boot.upgrades.clone().start(update.id(), without).await.unwrap();
    assert_eq!(disk.entries(), ["corten-a.conf", "corten-b+3.conf"]);
    assert!(boot.record().await.without_snapshot);
}

#[tokio::test]
async fn staged_until_the_next_reboot_and_replaced_by_another() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let update = new.update();
    let boot = disk.boot(&[&old]).await;
    boot.send(&update).await.unwrap();
    let stage = super::work::Asked { stage: true, ..asked() };
    let done = boot.upgrades.clone().start(update.id(), stage.clone()).await.unwrap();
    assert_eq!((done.phase, done.message.as_str(), done.reboot), (Phase::Ready, "the next reboot tries 0.2.0", false));
    // An agent that starts again knows it, and so does the same offer.
    let again = disk.agent(&[&old], Slot::A, false, Failpoints::default()).await;
    let offered = again.offer(&update).await.unwrap();
    assert_eq!((offered.missing.len(), again.record().await.phase), (0, Phase::Ready));
    assert_eq!(disk.entries(), ["corten-a.conf", "corten-b+3.conf"]);
    assert_eq!(again.upgrades.plan_start(&update.id(), &stage).await.unwrap(), ["leave it to the next reboot"]);
    assert!(again.start(&update).await.unwrap().reboot);

    let newest = Image::new("0.3.0");
    assert_eq!(reason(again.offer(&newest.update()).await).0, "UPGRADE_UNDER_WAY", "a reboot is under way");
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    boot.send(&update).await.unwrap();
    boot.upgrades.clone().start(update.id(), stage).await.unwrap();
    boot.upgrade(&newest.update()).await.unwrap();
    let phases: Vec<Phase> = boot.node.store.all::<super::Record>().into_values().map(|record| record.phase).collect();
    assert_eq!(phases, [Phase::Cancelled, Phase::Booting]);
    assert!(disk.holds(Slot::B, &newest));
}

/// A machine that was upgraded, runs with generation 2, and whose old image ran with generation 1.
async fn upgraded(old: &Image, new: &Image) -> Disk {
    let disk = Disk::configured(old);
    disk.boot(&[old]).await.upgrade(&new.update()).await.unwrap();
    settled(&disk, &[old, new]).await;
    disk.add_generation();
    disk
}

#[tokio::test]
async fn back_to_the_image_before_with_its_config() {
    let (old, new) = (old(), new());
    let images = [&old, &new];
    let disk = upgraded(&old, &new).await;
    let boot = disk.boot(&images).await;
    let plan = boot.upgrades.plan_rollback(&asked()).await.unwrap();
    assert_eq!(plan[..2], ["have the next boot try 0.1.0 in slot a", "put config generation 1 in force, with which it ran last"]);
    assert_eq!(disk.entries(), ["corten-a.conf", "corten-b.conf"], "a plan changes nothing");
    boot.rollback().await.unwrap();
    assert_eq!((disk.entries(), disk.generation()), (vec!["corten-a+3.conf".to_owned(), "corten-b.conf".to_owned()], 2));
    let boot = settled(&disk, &images).await;
    let record = boot.record().await;
    assert_eq!((boot.slot, record.kind, record.phase, disk.generation()), (Slot::A, Kind::Rollback, Phase::Blessed, 1));
    assert_eq!((disk.next_slot(), boot.slot_status(Slot::B).generation), (Slot::A, 2));

    // And forward again, and back because it fails.
    boot.rollback().await.unwrap();
    let boot = disk.boot(&images).await;
    assert_eq!((boot.slot, disk.generation()), (Slot::B, 2));
    boot.upgrades.fail(broken()).await.unwrap();
    let boot = disk.boot(&images).await;
    assert_eq!((boot.slot, disk.generation(), boot.record().await.phase), (Slot::A, 1, Phase::Failed));
    assert_eq!(reason(boot.rollback().await).0, "NOTHING_TO_ROLL_BACK_TO");
}

#[tokio::test]
async fn a_cut_in_a_rollback_ends_on_one_image_with_its_own_config() {
    let (old, new) = (old(), new());
    let images = [&old, &new];
    for passed in 0.. {
        let disk = upgraded(&old, &new).await;
        let (failpoints, reached) = cut_after(passed);
        let done = async {
            disk.boot_with(&images, failpoints.clone()).await.rollback().await?;
            disk.boot_with(&images, failpoints).await.upgrades.bless().await
        };
        let done = done.await.is_ok();
        let place = reached.lock().unwrap().last().copied().unwrap_or_default();
        let boot = settled(&disk, &images).await;
        let expected = if boot.slot == Slot::A { 1 } else { 2 };
        assert_eq!(disk.generation(), expected, "{place}: slot {}", boot.slot.name());
        if boot.slot == Slot::B {
            boot.rollback().await.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(settled(&disk, &images).await.slot, Slot::A, "{place}");
        }
        assert_eq!((disk.generation(), boot.record().await.phase), (1, Phase::Blessed), "{place}");
        if done {
            assert!(passed > 5, "{:?}", reached.lock().unwrap());
            return;
        }
    }
}

#[tokio::test]
async fn nothing_to_go_back_to() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    assert_eq!(reason(boot.rollback().await).1, "slot b holds no image that was ever known to be good");
    let disk = upgraded(&old, &new).await;
    let boot = disk.boot(&[&old, &new]).await;
    fs::write(disk.esp_path().join("corten/a.efi"), &new.uki).unwrap();
    assert!(reason(boot.rollback().await).1.contains("boots another root"));
    boot.offer(&Image::new("0.3.0").update()).await.unwrap();
    assert_eq!(reason(boot.rollback().await).1, "slot a holds no image that was ever known to be good", "it is being written over");
}

#[tokio::test]
async fn somebody_gives_up_an_image_on_trial() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    disk.boot(&[&old]).await.upgrade(&new.update()).await.unwrap();
    let boot = disk.boot(&[&new]).await;
    assert_eq!(boot.upgrades.plan_rollback(&asked()).await.unwrap()[0], "give up 0.2.0, which is on trial");
    assert!(boot.rollback().await.unwrap().reboot);
    let boot = disk.boot(&[&old]).await;
    let record = boot.record().await;
    assert_eq!((boot.slot, record.phase, record.reason.unwrap().check.as_str()), (Slot::A, Phase::Failed, "rollback"));
}

#[tokio::test]
async fn what_is_refused_before_anything_is_written() {
    let old = old();
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let image = new();
    let offered = async |header: Header, keys: &[SigningKey]| {
        let update = image.update_with(header, keys);
        reason(boot.offer(&update).await)
    };
    let stranger = SigningKey::from_seed(&[2; 32]).unwrap();
    let header = image.header();
    let cases = [
        ("UNTRUSTED", "signed by 0 of 1 trusted keys", offered(header.clone(), &[stranger]).await),
        ("UNTRUSTED", "no signature at all", offered(header.clone(), &[]).await),
        ("UNTRUSTED", "expired", offered(Header { expires_at: Some(1_700_000_001), ..header.clone() }, &[key()]).await),
        (
            "NOT_ADMISSIBLE",
            "version: 0.0.9 is lower",
            offered(Header { version: Version::new(0, 0, 9), minimum_version: Version::new(0, 0, 1), ..header.clone() }, &[key()]).await,
        ),
        ("NOT_ADMISSIBLE", "minimumVersion", offered(Header { minimum_version: Version::new(0, 2, 0), ..header.clone() }, &[key()]).await),
        (
            "NOT_ADMISSIBLE",
            "profile: the update is for worker",
            offered(Header { profile: "worker".to_owned(), ..header.clone() }, &[key()]).await,
        ),
        (
            "NOT_ADMISSIBLE",
            "architecture: the update is for aarch64",
            offered(Header { architecture: "aarch64".to_owned(), ..header.clone() }, &[key()]).await,
        ),
        (
            "NOT_ADMISSIBLE",
            "configVersions: 0.2.0 reads machine configs of corten.dev/v2",
            offered(Header { config_versions: vec!["corten.dev/v2".to_owned()], ..header.clone() }, &[key()]).await,
        ),
        (
            "NO_SPACE",
            "the slot of this update needs",
            offered(Header { slot_bytes: super::played::SLOT_BYTES + 4096, ..header }, &[key()]).await,
        ),
    ];
    for (word, words, (found, text)) in cases {
        assert!(found == word && text.contains(words), "{found}: {text}; expected {word}: {words}");
    }
    for cut in [0, 1, 100] {
        let update = image.update();
        let manifest = update.signed().bytes()[..cut].to_vec();
        assert_eq!(reason(boot.upgrades.offer(super::offer::Wanted { manifest, ..update.wanted() }).await).0, "INVALID");
    }
    assert!(!disk.root().upgrade_records().exists() && disk.entries() == ["corten-a.conf"]);
    assert!(fs::read(&disk.devices(Slot::B)[0]).unwrap().iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_lower_version_if_it_is_meant() {
    let old = old();
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let image = Image::new("0.0.9");
    let update = image.update_with(Header { minimum_version: Version::new(0, 0, 1), ..image.header() }, &[key()]);
    boot.upgrades.offer(super::offer::Wanted { allow_downgrade: true, ..update.wanted() }).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_tells_the_same() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    let dry = boot.upgrades.offer(super::offer::Wanted { dry_run: true, ..update.wanted() }).await.unwrap();
    assert!(!disk.root().upgrade_records().exists());
    assert!(fs::read(&disk.devices(Slot::B)[0]).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(boot.offer(&update).await.unwrap(), dry);
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let (old, new) = (old(), new());
    let disk = upgraded(&old, &new).await;
    // Slot A has the old image; the next one differs from it in one stretch of the root.
    let (failpoints, reached) = cut_after(usize::MAX);
    let boot = disk.boot_with(&[&new], failpoints).await;
    let newest = Image::new("0.3.0").update();
    let sent = boot.send(&newest).await.unwrap();
    let written = reached.lock().unwrap().iter().filter(|name| **name == "slot::chunk-written").count() as u64;
    let all = newest.signed().peek().distinct_chunks().len() as u64;
    assert!(written <= sent + 2 && written < all / 2, "{sent} chunks sent, {written} written, {all} in all");
}

fn sent(digest: Vec<u8>, data: Vec<u8>) -> Sent {
    Sent { digest, data, base: None }
}

#[tokio::test]
async fn strange_uploads() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    assert_eq!(reason(boot.upgrades.clone().upload(&update.id()).await.map(drop)).0, "OFFER_FIRST");
    let mut missing = boot.offer(&update).await.unwrap().missing;
    let mut upload = boot.upgrades.clone().upload(&update.id()).await.unwrap();
    let good = update.chunk(&missing[0]);
    assert!(reason(upload.take(sent(vec![0; 31], good.clone())).await).1.starts_with("digest: 31 bytes"));
    assert!(reason(upload.take(sent(vec![0; 32], good.clone())).await).1.contains("is no chunk of the update"));
    for bad in [good[..good.len() - 1].to_vec(), Vec::new(), vec![0; 1 << 20], update.chunk(&missing[1])] {
        assert!(reason(upload.take(sent(missing[0].0.to_vec(), bad)).await).1.starts_with("data: chunk"));
    }
    // In any order, and twice.
    missing.reverse();
    let last = missing.pop().unwrap();
    for digest in missing.iter().chain(&missing) {
        upload.take(update.whole(digest)).await.unwrap();
    }
    assert_eq!((upload.finish().await.unwrap(), upload.chunks), (1, missing.len() as u64));
    assert_eq!(reason(boot.start(&update).await).0, "CHUNKS_MISSING");
    assert_eq!(reason(boot.upgrades.clone().start("ab".repeat(32), asked()).await).0, "OFFER_FIRST");
    // The next offer knows what came; the stream for the one before is over.
    assert_eq!(boot.offer(&update).await.unwrap().missing, [last]);
    assert_eq!(reason(upload.take(update.whole(&last)).await).0, "SUPERSEDED");
    boot.upgrade(&update).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
}

/// The old image with a byte changed here and there in each of its parts: hardly a chunk stays, and each is like one of the old.
fn alike(old: &Image) -> Image {
    let mut new = new();
    new.root = old.root.clone();
    (0..new.root.len()).step_by(9_000).for_each(|at| new.root[at] ^= 0x55);
    new.verity = old.verity.clone();
    new.verity[20_000] ^= 0x55;
    new
}

#[tokio::test]
async fn patches_make_the_image_of_the_one_that_runs() {
    let (old, new) = (old(), alike(&old()));
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let (from, update) = (old.update(), new.update());
    let offered = boot.offer(&update).await.unwrap();
    assert_eq!(offered.running_root_hash, old.root_hash.to_string());
    let mut upload = boot.upgrades.clone().upload(&update.id()).await.unwrap();
    let (mut parts, mut whole, mut patched) = (BTreeSet::new(), 0, 0);
    for digest in &offered.missing {
        let patch = update.patch(digest, &from).expect("every part has something like it");
        whole += update.chunk(digest).len();
        patched += patch.data.len();
        parts.insert(patch.base.unwrap().part.name());
        upload.take(patch).await.unwrap();
    }
    assert_eq!(upload.finish().await.unwrap(), 0);
    assert!(patched * 20 < whole, "{patched} bytes of patches, {whole} of whole chunks");
    assert_eq!(parts, BTreeSet::from(["root", "verity", "uki"]));
    boot.start(&update).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
}

#[tokio::test]
async fn a_patch_against_something_else_is_not_taken_and_the_chunk_is_sent_whole() {
    let (old, new) = (old(), alike(&old()));
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let (from, update) = (old.update(), new.update());
    let missing = boot.offer(&update).await.unwrap().missing;
    let mut upload = boot.upgrades.clone().upload(&update.id()).await.unwrap();
    let good = update.patch(&missing[0], &from).unwrap();
    let base = good.base.unwrap();
    let with = |base| Sent { base: Some(base), ..good.clone() };
    let uki = old.uki.len() as u64;
    let mismatches = [
        ("with digest", Base { offset: base.offset + 1, ..base }),
        ("with digest", Base { part: PartName::Verity, offset: 0, length: 1000 }),
        // Nobody noted how long this image is, and it is no erofs that would tell: the partition is its root.
        ("ends beyond the part root", Base { offset: super::played::SLOT_BYTES, length: 1, ..base }),
        ("ends beyond the part uki", Base { part: PartName::Uki, offset: uki - 10, length: 11 }),
        ("ends beyond the part root", Base { offset: u64::MAX, ..base }),
    ];
    for (words, base) in mismatches {
        let (word, text) = reason(upload.take(with(base)).await);
        let told = text.contains(words) || (words == "with digest" && (text.contains("decompressing") || text.contains("makes no chunk")));
        assert!(word == "BASE_MISMATCH" && told && text.contains(&missing[0].to_string()), "{word}: {text}; {words}");
    }
    for length in [0, MAX_BASE_BYTES + 1] {
        let (word, text) = reason(upload.take(with(Base { length, ..base })).await);
        assert!(word == "INVALID" && text.starts_with("base.length_bytes: "), "{word}: {text}");
    }
    // The list of chunks says how far the image reaches, and is gone.
    let chunks = disk.root().slot_records().join("a.chunks");
    let noted = fs::read(&chunks).unwrap();
    fs::remove_file(&chunks).unwrap();
    let mut other = boot.upgrades.clone().upload(&update.id()).await.unwrap();
    assert!(reason(other.take(good.clone()).await).1.contains("the list of the running image's chunks is gone"));
    fs::write(&chunks, noted).unwrap();
    // Nothing of it was written; the same chunk comes whole, and another as a patch.
    upload.take(update.whole(&missing[0])).await.unwrap();
    upload.take(update.patch(&missing[1], &from).unwrap()).await.unwrap();
    upload.take(good).await.unwrap();
    assert_eq!((upload.chunks, upload.finish().await.unwrap()), (2, missing.len() as u64 - 2));
}

#[tokio::test]
async fn what_reads_back_differently_is_not_booted_and_sent_anew() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    boot.send(&update).await.unwrap();
    for (path, at) in [
        (disk.devices(Slot::B)[0].clone(), 720_000),
        (disk.devices(Slot::B)[1].clone(), 1),
        (disk.esp_path().join("corten/b.efi.new"), 9_000),
    ] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (word, text) = reason(boot.start(&update).await);
        assert!(word == "DAMAGED" && text.contains("reads back with SHA-256"), "{word}: {text}");
        assert_eq!((disk.entries(), boot.record().await.phase), (vec!["corten-a.conf".to_owned()], Phase::Writing));
        assert_eq!(boot.node.stage(), machine::stage::Stage::Maintenance);
        assert_eq!(reason(boot.start(&update).await).0, "OFFER_FIRST");
        assert_eq!(boot.send(&update).await.unwrap(), 1, "the chunk that was damaged");
    }
    boot.start(&update).await.unwrap();
}

#[tokio::test]
async fn a_kernel_that_boots_another_root_is_not_booted() {
    let old = old();
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let image = Image { uki: Image::new("0.3.0").uki, ..new() };
    let update = image.update();
    boot.send(&update).await.unwrap();
    let (word, text) = reason(boot.start(&update).await);
    assert!(word == "DAMAGED" && text.contains("boots another root"), "{word}: {text}");
    assert_eq!(disk.entries(), ["corten-a.conf"]);
}

#[tokio::test]
async fn a_full_disk() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    let uki = disk.esp_path().join("corten/b.efi.new");
    std::os::unix::fs::symlink("/dev/full", &uki).unwrap();
    let error = boot.upgrade(&update).await.unwrap_err();
    let Refusal::Internal(error) = error else { panic!("{error:?}") };
    assert!(format!("{error:#}").contains("No space left on device"), "{error:#}");
    assert_eq!((disk.entries(), disk.next_slot()), (vec!["corten-a.conf".to_owned()], Slot::A));
    fs::remove_file(uki).unwrap();
    boot.upgrade(&update).await.unwrap();
}

#[tokio::test]
async fn a_config_on_trial_is_not_what_is_gone_back_to() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let generations = crate::config::Generations::new(disk.root().config_directory());
    disk.add_generation();
    let trial = crate::config::Trial { fallback: 1, boot_id: "boot 1".to_owned(), deadline_since_boot_milliseconds: 1, revert_at: 1 };
    generations.point(&crate::config::Current::tried(2, Some(trial))).unwrap();
    boot.upgrade(&new.update()).await.unwrap();
    assert_eq!(boot.record().await.generation, 1);
    assert_eq!(super::pinned_generations(&disk.root()), BTreeSet::from([1]));
}

#[tokio::test]
async fn a_machine_without_slots_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let root = machine::Root::new(directory.path());
    let node = crate::node::Node::new(root.clone(), crate::init_client::InitClient::new(root.init_socket()));
    let upgrades = std::sync::Arc::new(super::Upgrades::new(node.clone(), crate::power::Power::new(node), Failpoints::default()));
    upgrades.settle().await;
    assert_eq!(reason(upgrades.offer(new().update().wanted()).await).0, "NO_SLOTS");
    assert_eq!(reason(upgrades.clone().rollback(asked()).await).0, "NO_SLOTS");
    assert_eq!(upgrades.on_trial().await, None);
}

#[tokio::test]
async fn a_staged_upgrade_falls_back_to_the_config_of_the_reboot() {
    let (old, new) = (old(), new());
    let images = [&old, &new];
    for passed in 0.. {
        let disk = Disk::configured(&old);
        let update = new.update();
        let boot = disk.boot(&images).await;
        boot.send(&update).await.unwrap();
        boot.upgrades.clone().start(update.id(), super::work::Asked { stage: true, ..asked() }).await.unwrap();
        assert_eq!((boot.record().await.generation, disk.add_generation()), (1, 2));
        // The first agent of the new image is cut off at each of its points.
        let (failpoints, reached) = cut_after(passed);
        drop(disk.boot_with(&images, failpoints).await);
        let boot = disk.boot(&images).await;
        disk.add_generation();
        boot.upgrades.fail(broken()).await.unwrap();
        let boot = disk.boot(&images).await;
        assert_eq!((disk.generation(), boot.slot, boot.slot_status(Slot::A).generation), (2, Slot::A, 2), "{:?}", reached.lock().unwrap());
        if reached.lock().unwrap().len() <= passed {
            assert!(passed > 2);
            return;
        }
    }
}

#[tokio::test]
async fn the_running_slot_gets_its_entry_back_before_the_other_one_is_touched() {
    let (old, new) = (old(), new());
    let disk = upgraded(&old, &new).await;
    let entry = disk.esp_path().join("loader/entries/corten-b.conf");
    let boot = disk.boot(&[&new]).await;
    // A repair of the file system left the name without the contents.
    fs::write(&entry, "").unwrap();
    let Err(Refusal::Internal(error)) = boot.offer(&Image::new("0.3.0").update()).await else { panic!("the only entry left is removed") };
    assert!(error.to_string().contains("no entry that is known to be good for the running slot b"), "{error:#}");
    assert!(disk.entries().contains(&"corten-a.conf".to_owned()));
    let again = disk.agent(&[&new], Slot::B, false, Failpoints::default()).await;
    assert_eq!((disk.next_slot(), again.slot_status(Slot::B).blessed), (Slot::B, true));
    again.offer(&Image::new("0.3.0").update()).await.unwrap();
}
