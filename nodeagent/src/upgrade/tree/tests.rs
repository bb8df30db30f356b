use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use machine::disk::Slot;
use update::{Digest, HashTree, PartName, SignedManifest};

use crate::failpoint::Failpoints;
use crate::upgrade::offer::Wanted;
use crate::upgrade::phase::Phase;
use crate::upgrade::played::{Disk, Image, Update, asked, cut_after, hash_tree, key};
use crate::upgrade::survey::targets;
use crate::upgrade::tests::{differing, reason, settled};

fn old() -> Image {
    Image::hashed("0.1.0")
}

fn new() -> Image {
    Image::hashed("0.2.0")
}

fn tree_chunks(update: &Update) -> Vec<Digest> {
    update.signed().peek().part(PartName::Verity).unwrap().chunks.iter().map(|chunk| chunk.sha256).collect()
}

#[tokio::test]
async fn it_is_made_and_not_sent() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let update = new.update();
    assert_eq!(update.signed().peek().hash_tree, Some(hash_tree()));
    let (failpoints, reached) = cut_after(usize::MAX);
    let boot = disk.boot_with(&[&old], failpoints).await;
    let dry = boot.upgrades.offer(Wanted { dry_run: true, ..update.wanted() }).await.unwrap();
    let offered = boot.offer(&update).await.unwrap();
    assert_eq!(offered, dry);
    assert!(!offered.missing.is_empty() && tree_chunks(&update).iter().all(|chunk| !offered.missing.contains(chunk)));
    boot.send(&update).await.unwrap();
    let verity = &disk.devices(Slot::B)[1];
    assert!(fs::read(verity).unwrap().iter().all(|byte| *byte == 0), "the root is not whole before");
    boot.start(&update).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
    let made = reached.lock().unwrap().iter().filter(|name| **name == "slot::hashes-written").count();
    assert_eq!(made, 5, "superblock, three blocks of digests, the top");
    let everything: u64 = new.parts().into_iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let written = boot.record().await.written_bytes;
    assert!(written <= everything && written > everything - 4096, "an empty slot: {written} of {everything}");
}

#[tokio::test]
async fn only_blocks_that_differ_are_written() {
    let (old, new, newest) = (old(), new(), Image::hashed("0.3.0"));
    let disk = Disk::configured(&old);
    disk.boot(&[&old]).await.upgrade(&new.update()).await.unwrap();
    settled(&disk, &[&old, &new]).await;
    // The slot holds the image of two releases before: one stretch of 13 blocks differs, all below one block of digests.
    let before = disk.read(Slot::A);
    let boot = disk.boot(&[&old, &new]).await;
    boot.upgrade(&newest.update()).await.unwrap();
    assert!(disk.holds(Slot::A, &newest));
    let changed = differing(&before, &disk.read(Slot::A));
    assert_eq!(changed[1], 2 * 4096, "that block and the top");
    let (written, changed) = (boot.record().await.written_bytes, changed.iter().sum::<u64>());
    assert!(written > 2 * 4096 && written <= changed, "{written} bytes written; blocks of {changed} bytes changed");
}

/// An update whose manifest says something else of the hash tree than is true. It has the chunks of `update`.
fn lying(update: &Update, tree: HashTree) -> SignedManifest {
    let mut manifest = update.signed().peek().clone();
    manifest.hash_tree = Some(tree);
    SignedManifest::sign(&manifest, &[key()]).unwrap()
}

#[tokio::test]
async fn a_tree_that_was_not_signed_is_the_fault_of_the_update_file() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    let lies = [
        HashTree { salt: "5a18".parse().unwrap(), ..hash_tree() },
        HashTree { uuid: "01234567-89ab-cdef-0123-456789abcdee".parse().unwrap(), ..hash_tree() },
    ];
    for tree in lies {
        let signed = lying(&update, tree);
        let (id, wanted) = (signed.id().to_string(), Wanted { manifest: signed.bytes().to_vec(), ..update.wanted() });
        let offered = boot.upgrades.offer(wanted).await.unwrap();
        boot.send_all(&id, &offered.missing, &update).await.unwrap();
        let (word, text) = reason(boot.upgrades.clone().start(id, asked()).await);
        assert_eq!(word, "WRONG_HASH_TREE");
        assert!(text.contains("the update file is at fault: hashTree") && text.contains("part verity reads back with SHA-256"), "{text}");
        assert_eq!((disk.entries(), boot.record().await.phase), (vec!["corten-a.conf".to_owned()], Phase::Writing));
    }
    // The true one is still taken, of the same root.
    boot.upgrade(&update).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
}

/// Cuts nothing, but damages a byte of a file at that point.
fn damaging(point: &'static str, path: PathBuf, at: usize) -> Failpoints {
    Failpoints::new(move |reached| if reached == point { damage(&path, at) } else { Ok(()) })
}

fn damage(path: &Path, at: usize) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    bytes[at] ^= 1;
    fs::write(path, bytes)
}

#[tokio::test]
async fn a_disk_that_does_not_keep_it_is_at_fault_itself() {
    let (old, new) = (old(), new());
    let update = new.update();
    let disk = Disk::configured(&old);
    let [root, verity] = disk.devices(Slot::B);
    for (path, at, part) in [(verity, 5000, "part verity"), (root, 720_000, "part root")] {
        let boot = disk.boot_with(&[&old], damaging("start::verifying", path, at)).await;
        boot.send(&update).await.unwrap();
        let (word, text) = reason(boot.start(&update).await);
        assert!(word == "DAMAGED" && text.contains(part), "{word}: {text}");
    }
    // What was damaged is made or sent anew.
    let boot = disk.boot(&[&old]).await;
    assert_eq!(boot.send(&update).await.unwrap(), 1, "the chunk of the root");
    boot.start(&update).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
}

#[tokio::test]
async fn an_update_that_does_not_say_what_the_tree_is_made_of_is_sent_as_ever() {
    let (old, new) = (old(), new());
    let disk = Disk::configured(&old);
    let boot = disk.boot(&[&old]).await;
    let update = new.update();
    let mut manifest = update.signed().peek().clone();
    manifest.hash_tree = None;
    let signed = SignedManifest::sign(&manifest, &[key()]).unwrap();
    let offered = boot.upgrades.offer(Wanted { manifest: signed.bytes().to_vec(), ..update.wanted() }).await.unwrap();
    assert!(tree_chunks(&update).iter().all(|chunk| offered.missing.contains(chunk)));
    boot.send_all(&signed.id().to_string(), &offered.missing, &update).await.unwrap();
    boot.upgrades.clone().start(signed.id().to_string(), asked()).await.unwrap();
    assert!(disk.holds(Slot::B, &new));
}

#[test]
fn a_chunk_that_stands_in_the_tree_and_in_the_root_goes_to_the_root() {
    let mut manifest = new().update().signed().peek().clone();
    let (first, of_tree) = (manifest.parts[0].chunks[0], manifest.parts[1].chunks[0]);
    manifest.parts[1].chunks.push(first);
    let targets = targets(&manifest);
    assert_eq!(targets[&first.sha256], (first, vec![(PartName::Root, 0)]));
    assert_eq!(targets[&of_tree.sha256], (of_tree, Vec::new()), "known, and not needed");
    assert!(manifest.needed_chunks().contains(&first) && !manifest.needed_chunks().contains(&of_tree));
}
