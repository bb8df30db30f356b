//! How fast snapshots of etcd are taken, and made etcd's data again: `make bench T=etcd`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::etcd::snapshot::Taking;
use crate::figures::{figure, rounds};
use crate::member::Client;

/// Values of a mebibyte, which is what an etcd takes by default.
const VALUES: usize = 256;
const VALUE_BYTES: usize = 1024 * 1024;
/// As machinectl sends them.
const PIECE_BYTES: usize = 64 * 1024;

/// Megabytes a second.
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// The stream of etcd's, left alone.
async fn drained(node: &Node) -> u64 {
    let client = Client::new(node).unwrap();
    let mut taking = Taking::begin(client.own()).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = taking.next().await.unwrap() {
        bytes += piece.bytes.len() as u64;
    }
    bytes
}

/// Nothing but written, in the same pieces, and on the disk.
fn copied(bytes: &[u8], to: &Path) {
    let mut file = File::create(to).unwrap();
    bytes.chunks(PIECE_BYTES).for_each(|piece| file.write_all(piece).unwrap());
    file.sync_all().unwrap();
}

#[test]
#[ignore = "measures: make bench T=etcd"]
fn snapshots_of_256_mib() {
    let segment = Segment::new(1);
    let wanted = EtcdSnapshots::default();
    let machine = machine(&segment, "something", &wanted);
    machine.ask(async |access| {
        let mut random = File::open("/dev/urandom").unwrap();
        for number in 0..VALUES {
            let mut half = vec![0; VALUE_BYTES / 2 - 64];
            random.read_exact(&mut half).unwrap();
            keys::put(access, &format!("/registry/{number}"), &hex::encode(half)).await.unwrap();
        }
    });
    let (mut taken, mut alone, mut staged, mut whole, mut copies) = (vec![], vec![], vec![], vec![], vec![]);
    let directory = machine.root().path(&wanted.directory);
    for _ in 0..rounds() {
        let at = directory.clone();
        let (of_taking, of_stream) = machine.run(async move |node| {
            let began = Instant::now();
            let bytes = take::take(&node, &Place::Directory(Directory::new(at)), "measured").await.unwrap();
            let of_taking = rate(bytes, began.elapsed());
            let began = Instant::now();
            let bytes = drained(&node).await;
            (of_taking, rate(bytes, began.elapsed()))
        });
        taken.push(of_taking);
        alone.push(of_stream);
        let bytes = std::fs::read(directory.join("measured")).unwrap();
        let began = Instant::now();
        copied(&bytes, &directory.join("copy"));
        copies.push(rate(bytes.len() as u64, began.elapsed()));
        let began = Instant::now();
        let length = bytes.len() as u64;
        let of_staging = machine.run(async move |node| {
            let began = Instant::now();
            let mut upload = Upload::begin(&node, "cp-1", false).unwrap();
            bytes.chunks(PIECE_BYTES).try_for_each(|piece| upload.take(piece)).unwrap();
            upload.finish("a benchmark").unwrap();
            rate(length, began.elapsed())
        });
        staged.push(of_staging);
        machine.until("it is restored", |node| crate::resources::etcd_repair::load(&node.root).unwrap().is_none());
        machine.until_voter();
        let restored = machine.ask(async |access| keys::count(access).await.unwrap());
        assert!(restored > VALUES as i64, "{restored} keys of {VALUES}");
        whole.push(rate(length, began.elapsed()));
        // What the next round puts is not what this one restored.
        machine.ask(async |access| keys::put(access, "/registry/thing", "another round").await.map(drop).unwrap());
    }
    let unit = "megabytesPerSecond";
    figure("etcd snapshot taken, encrypted and read back; peer: etcd's stream alone", unit, &taken, Some(&alone), json!("none"));
    figure("etcd snapshot checked, opened and staged; peer: a copy on the disk", unit, &staged, Some(&copies), json!("none"));
    figure("etcd restored, until it answers for all keys", unit, &whole, None, json!("none"));
}
