//! A real etcd's snapshots, in a directory and in a bucket that a small server keeps on loopback.

mod measured;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use machine::config::{S3Bucket, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::signature::{Signed, Signer};
use super::*;
use crate::etcd::played::keys;
use crate::etcd::played::machine::{Machine as Played, Segment};
use crate::member::restore::Upload;

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A bucket, and what was asked for that should not have been.
#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<u32, Vec<u8>>,
    /// Requests that fail before the next one is answered.
    trouble: u32,
    /// The last byte of what is read is another one.
    rotten: bool,
}

type Shared = Arc<Mutex<Kept>>;

/// Speaks as much of S3 as is asked for, checks each signature and each body's digest.
async fn serve(listener: TcpListener, kept: Shared) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, kept.clone()));
    }
}

async fn answer(mut stream: TcpStream, kept: Shared) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes[end + 4..].to_vec();
    let header = |name: &str| {
        let line = head.lines().skip(1).find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.map(|line| line[name.len() + 1..].trim().to_owned())
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0);
    }
    let mut words = head.lines().next().unwrap().split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let digest = header("x-amz-content-sha256").unwrap();
    let time = header("x-amz-date").unwrap();
    let range = header("range");
    let host = header("host").unwrap();
    let mut headers = vec![("host", host.as_str())];
    headers.extend(range.as_deref().map(|range| ("range", range)));
    headers.extend([("x-amz-content-sha256", digest.as_str()), ("x-amz-date", time.as_str())]);
    let signed = Signed { method, path, query, headers: &headers, payload_sha256: &digest, time: &time };
    let expected = Signer { access_key_id: KEY_ID, secret_access_key: SECRET, region: "us-east-1" }.authorization(&signed);
    let genuine =
        header("authorization").as_deref() == Some(&expected) && digest == hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&body));
    let (status, more, body) = match genuine {
        false => ("403 Forbidden", String::new(), b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>".to_vec()),
        true => keep(&mut kept.lock().unwrap(), method, path, query, range.as_deref(), body),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{more}connection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
}

fn keep(kept: &mut Kept, method: &str, path: &str, query: &str, range: Option<&str>, body: Vec<u8>) -> (&'static str, String, Vec<u8>) {
    if kept.trouble > 0 {
        kept.trouble -= 1;
        return ("503 Slow Down", String::new(), Vec::new());
    }
    let key = path.strip_prefix("/backups").unwrap().trim_start_matches('/').to_owned();
    let values: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let done = |body: String| ("200 OK", String::new(), body.into_bytes());
    match (method, values.contains_key("uploads"), values.get("partNumber")) {
        ("GET", ..) if key.is_empty() => {
            // Two at a time.
            let prefix = values["prefix"].replace("%2F", "/");
            let after = values.get("continuation-token").copied().unwrap_or_default().replace("%2F", "/");
            let all: Vec<&String> = kept.objects.keys().filter(|name| name.starts_with(&prefix) && **name > after).collect();
            let keys: String = all.iter().take(2).map(|name| format!("<Contents><Key>{name}</Key></Contents>")).collect();
            let token = if all.len() > 2 { format!("<NextContinuationToken>{}</NextContinuationToken>", all[1]) } else { String::new() };
            done(format!("<ListBucketResult>{keys}{token}</ListBucketResult>"))
        }
        ("GET", ..) => {
            let (from, to) = range.unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            let mut piece = kept.objects[&key][from..=to].to_vec();
            if kept.rotten {
                *piece.last_mut().unwrap() ^= 1;
            }
            ("206 Partial Content", String::new(), piece)
        }
        ("POST", true, _) => done("<InitiateMultipartUploadResult><UploadId>u-1</UploadId></InitiateMultipartUploadResult>".to_owned()),
        ("PUT", _, Some(number)) => {
            kept.parts.insert(number.parse().unwrap(), body);
            ("200 OK", format!("etag: \"tag-{number}\"\r\n"), Vec::new())
        }
        ("POST", false, _) => {
            let text = String::from_utf8(body).unwrap();
            assert_eq!(text.matches("<PartNumber>").count(), kept.parts.len());
            assert!(text.contains("<ETag>&quot;tag-1&quot;</ETag>"), "{text}");
            let whole = std::mem::take(&mut kept.parts).into_values().flatten().collect();
            kept.objects.insert(key, whole);
            done("<CompleteMultipartUploadResult/>".to_owned())
        }
        ("DELETE", ..) => {
            kept.objects.remove(&key);
            ("204 No Content", String::new(), Vec::new())
        }
        other => panic!("{other:?}"),
    }
}

fn bucket(endpoint: &str, secret: &str) -> S3Bucket {
    S3Bucket {
        endpoint: endpoint.to_owned(),
        region: "us-east-1".to_owned(),
        bucket: "backups".to_owned(),
        prefix: "clusters/demo/".to_owned(),
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: Secret::new(secret),
        ca: None,
    }
}

/// A machine with an etcd and something in it, whose config wants snapshots.
fn machine(segment: &Segment, value: &str, wanted: &EtcdSnapshots) -> Played {
    let mut machine = segment.machine(1);
    machine.start();
    machine.bootstrap();
    machine.until_voter();
    machine.until("it leads", |node| {
        turn(node, &EtcdSnapshots { s3: Some(bucket("http://127.0.0.1:1", SECRET)), ..wanted.clone() }).is_some()
    });
    let value = value.to_owned();
    machine.ask(async move |access| keys::put(access, "/registry/thing", &value).await.unwrap());
    want(&machine, wanted);
    machine
}

fn want(machine: &Played, wanted: &EtcdSnapshots) {
    let applied = machine.node().config().unwrap();
    let mut config = (*applied.config).clone();
    config.cluster.etcd.snapshots = Some(wanted.clone());
    machine.node().set_config(crate::node::Applied { generation: applied.generation, config: Arc::new(config) });
}

#[test]
fn a_directory_gets_them_and_what_it_got_is_restored() {
    let segment = Segment::new(1);
    let wanted = EtcdSnapshots { keep: 2, ..EtcdSnapshots::default() };
    let mut machine = machine(&segment, "the first secret", &wanted);
    machine.run(async |node| look(&node).await.unwrap());
    let directory = machine.root().path(&wanted.directory);
    let names = || Name::all("demo", &Directory::new(directory.clone()).list().unwrap());
    assert_eq!(names().len(), 1);
    machine.run(async |node| look(&node).await.unwrap());
    assert_eq!(names().len(), 1, "the next one is not due");
    let told = machine.node().store.get::<SnapshotSchedule>(SnapshotSchedule::NAME).unwrap();
    assert!(told.next_in_seconds > 0 && told.kept == 1 && told.error.is_empty(), "{told:?}");

    let file = directory.join(names()[0].text());
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(16).any(|window| window == b"the first secret"), "nobody reads it without the key");
    // As if it and others were older.
    for day in 1..=3 {
        std::fs::copy(&file, directory.join(format!("demo-2020010{day}T000000Z.snapshot"))).unwrap();
    }
    std::fs::write(directory.join("notes.txt"), "not ours").unwrap();
    std::fs::remove_file(&file).unwrap();
    machine.run(async |node| look(&node).await.unwrap());
    let left = names();
    assert_eq!((left.len(), left[0].text().as_str()), (2, "demo-20200103T000000Z.snapshot"));
    assert!(directory.join("notes.txt").exists(), "what is not ours is left alone");

    machine.ask(async |access| keys::put(access, "/registry/thing", "changed").await.unwrap());
    let upload = |bytes: Vec<u8>| {
        machine.run(async move |node| {
            let mut upload = Upload::begin(&node, "cp-1", false)?;
            bytes.chunks(10).try_for_each(|piece| upload.take(piece))?;
            upload.finish("a test")
        })
    };
    let mut changed = bytes.clone();
    changed[1000] ^= 1;
    let refused = upload(changed).unwrap_err().to_string();
    assert!(refused.contains("its end is missing") || refused.contains("changed since"), "{refused}");
    upload(bytes).unwrap();
    machine.until("it is restored", |node| crate::resources::etcd_repair::load(&node.root).unwrap().is_none());
    machine.cut();
    machine.start();
    machine.until_voter();
    assert_eq!(machine.ask(async |access| keys::all(access).await.unwrap())["/registry/thing"], "the first secret");
}

#[test]
fn a_bucket_gets_them() {
    let segment = Segment::new(1);
    let wanted = EtcdSnapshots { keep: 3, ..EtcdSnapshots::default() };
    let machine = machine(&segment, &"a secret".repeat(20_000), &wanted);
    machine.run(async move |node| {
        let kept = Shared::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, kept.clone()));
        let look_with = async |secret: &str| {
            let applied = node.config().unwrap();
            let mut config = (*applied.config).clone();
            config.cluster.etcd.snapshots = Some(EtcdSnapshots { s3: Some(bucket(&endpoint, secret)), ..wanted.clone() });
            node.set_config(crate::node::Applied { generation: applied.generation, config: Arc::new(config) });
            look(&node).await
        };
        let refused = look_with("another key").await.unwrap_err();
        assert!(format!("{refused:#}").contains("status 403 SignatureDoesNotMatch"), "{refused:#}");

        for day in 1..=4 {
            kept.lock().unwrap().objects.insert(format!("clusters/demo/demo-2020010{day}T000000Z.snapshot"), Vec::new());
        }
        kept.lock().unwrap().objects.insert("clusters/other".to_owned(), Vec::new());
        // What is read back is not what was sent: it does not stay.
        kept.lock().unwrap().rotten = true;
        let refused = look_with(SECRET).await.unwrap_err();
        assert!(format!("{refused:#}").contains("checking what was written"), "{refused:#}");
        assert_eq!(kept.lock().unwrap().objects.len(), 5);
        kept.lock().unwrap().rotten = false;
        kept.lock().unwrap().trouble = 2;
        look_with(SECRET).await.unwrap();
        let objects: Vec<(String, Vec<u8>)> = kept.lock().unwrap().objects.clone().into_iter().collect();
        let names: Vec<&str> = objects.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 4, "three of the cluster, and what is not its own: {names:?}");
        assert_eq!(names[..2], ["clusters/demo/demo-20200103T000000Z.snapshot", "clusters/demo/demo-20200104T000000Z.snapshot"]);
        assert!(objects[2].1.starts_with(controlplane::etcd::sealed::MAGIC));
    });
}
