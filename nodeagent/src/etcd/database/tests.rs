//! Databases that a real etcd wrote, and wrecks of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use controlplane::etcd::snapshot::DIGEST_BYTES;

use super::*;
use crate::etcd::played::{Etcd, keys};
use crate::etcd::snapshot::Taking;
use crate::etcd::{QUICK, maintenance, members};

const SKIPPED: u64 = 1_000_000_000;

/// A snapshot of an etcd with so many keys, one of which was deleted, and what they are.
async fn saved(directory: &Path, count: usize) -> (PathBuf, BTreeMap<String, String>, u64) {
    let etcd = Etcd::start();
    etcd.until_it_answers().await;
    for index in 0..count {
        keys::put(etcd.access(), &format!("/registry/things/{index:04}"), &format!("{index}").repeat(50)).await.unwrap();
    }
    keys::delete(etcd.access(), "/registry/things/0002").await.unwrap();
    let path = directory.join("snapshot.db");
    let mut file = File::create(&path).unwrap();
    let mut taking = Taking::begin(etcd.access()).await.unwrap();
    while let Some(piece) = taking.next().await.unwrap() {
        file.write_all(&piece.bytes).unwrap();
    }
    file.set_len(file.metadata().unwrap().len() - DIGEST_BYTES as u64).unwrap();
    (path, keys::all(etcd.access()).await.unwrap(), maintenance::status(etcd.access(), QUICK).await.unwrap().revision)
}

#[tokio::test]
async fn a_new_cluster_begins_with_the_data_of_an_old_one() {
    // The first ones stand where the root of their tree would, the others fill pages.
    for count in [5, 300] {
        begins_with_old_data(count).await;
    }
}

async fn begins_with_old_data(count: usize) {
    let directory = tempfile::tempdir().unwrap();
    let (path, all, revision) = saved(directory.path(), count).await;
    assert_eq!(all.len(), count - 1);
    let position = Database::read(&path).unwrap().position().unwrap();
    assert_eq!(position.revision, revision);
    assert!(position.index > count as u64 && position.term >= 2, "{position:?}");
    assert_eq!(Database::change(&path).unwrap().begin_anew(SKIPPED).unwrap(), revision + SKIPPED);
    assert_eq!(Database::read(&path).unwrap().position().unwrap(), Position { index: 0, term: 0, revision: revision + SKIPPED });

    let mut etcd = Etcd::start_with(&path);
    for start in ["its first", "a second"] {
        let status = etcd.until_it_answers().await;
        assert_eq!(keys::all(etcd.access()).await.unwrap(), all, "after {start} start");
        let members = members::list(etcd.access()).await.unwrap().members;
        assert_eq!(members.iter().map(|member| member.id.0).collect::<Vec<_>>(), [status.member], "after {start} start");
        let written = keys::put(etcd.access(), "/registry/things/0000", &all["/registry/things/0000"]).await.unwrap();
        assert!(written > revision + SKIPPED && status.revision >= revision + SKIPPED, "{written}");
        maintenance::defragment(etcd.access()).await.unwrap();
        etcd.restart();
    }
}

#[tokio::test]
async fn wrecks_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ..) = saved(directory.path(), 300).await;
    let whole = std::fs::read(&path).unwrap();
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Database::read(&path).and_then(|database| database.position()).unwrap_err().to_string()
    };
    assert_eq!(told(b"SQLite format 3"), "it is no database of etcd's: it does not begin as one");
    assert_eq!(told(&vec![0; 8192]), "it is no database of etcd's: it does not begin as one");
    assert_eq!(told(&whole[..whole.len() / 2]), "it is damaged: its end is missing");
    // Whatever is wrong with its pages, reading it ends, and without a panic.
    for seed in 0..2000_usize {
        let mut bytes = whole.clone();
        for offset in (8192 + seed % 997..bytes.len()).step_by(997) {
            bytes[offset] ^= (seed % 255) as u8 + 1;
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = Database::read(&path).and_then(|database| database.position());
    }
}
