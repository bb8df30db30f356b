//! Snapshots of etcd that are taken by themselves: how often, how many, and where they go.

use std::time::Duration;

use super::{Check, pem};
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{Etcd, S3Bucket, Url};

/// Each reads the whole database.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
const KEEP_MAX: u32 = 1000;

pub fn check(etcd: &Etcd, check: &mut Check<'_>) {
    let Some(snapshots) = &etcd.snapshots else { return };
    let path = Path::of("cluster.etcd.snapshots");
    if snapshots.interval.0 < INTERVAL_MIN {
        check.add(&path.key("interval"), snapshots.interval.to_string(), "at least 1m", "");
    }
    if !(1..=KEEP_MAX).contains(&snapshots.keep) {
        check.add(&path.key("keep"), snapshots.keep.to_string(), format!("a number from 1 to {KEEP_MAX}"), "");
    }
    let directory = std::path::Path::new(&snapshots.directory);
    let plain = directory.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let on_disk = ["/etcd/snapshots", "/var"].iter().any(|place| directory.starts_with(place) && directory != std::path::Path::new("/var"));
    if !plain || !on_disk {
        let expected = "a directory in /etcd/snapshots or /var, such as /var/backup/etcd";
        check.add(&path.key("directory"), quoted(&snapshots.directory), expected, "what lies elsewhere does not outlive a boot");
    }
    if let Some(bucket) = &snapshots.s3 {
        s3(&path.key("s3"), bucket, check);
    }
}

fn s3(path: &Path, s3: &S3Bucket, check: &mut Check<'_>) {
    match s3.endpoint.parse::<Url>() {
        Ok(url) if url.target != "/" => {
            check.add(&path.key("endpoint"), quoted(&s3.endpoint), "a URL without a path", "name the bucket in its own field")
        }
        Ok(url) if s3.ca.is_some() && !url.tls => {
            check.add(&path.key("ca"), "authorities", "none: nothing is encrypted on this way", "use https://")
        }
        Ok(_) => {}
        Err(problem) => check.add(&path.key("endpoint"), quoted(&s3.endpoint), problem.0, ""),
    }
    let of = |text: &str, more: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
    };
    for (field, text, more) in [("region", &s3.region, "-"), ("bucket", &s3.bucket, "-."), ("accessKeyId", &s3.access_key_id, "-_./+=")] {
        if !of(text, more) {
            check.add(&path.key(field), quoted(text), format!("letters, digits and {more}"), "");
        }
    }
    if !s3.prefix.is_empty() && !of(&s3.prefix, "-_./") {
        check.add(&path.key("prefix"), quoted(&s3.prefix), "letters, digits and -_./", "");
    }
    if s3.secret_access_key.reveal().trim().is_empty() {
        check.add(&path.key("secretAccessKey"), "nothing", "the key", "");
    }
    if let Some(ca) = &s3.ca {
        pem::certificates(&path.key("ca"), ca, check);
    }
}
