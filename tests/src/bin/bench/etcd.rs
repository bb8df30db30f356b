//! Snapshots of a real etcd on this host, by the agent's own code: taken, and made etcd's data again. Needs root and what `make components`
//! builds.

use serde_json::json;

use crate::figure::Outcome;
use crate::measured;

const TESTS: &str = "etcd_snapshots::tests::measured::";

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let notes = vec![
        "256 values of a mebibyte that does not compress; a directory on this host's disk, where etcd's data is too".to_owned(),
        "taken: etcd's stream, encrypted, written, fsynced, read back and checked. Staged: checked, opened, written, made the data of a new \
         cluster, fsynced. Restored: staged, etcd stopped, put in place, started, until all keys are read"
            .to_owned(),
    ];
    Ok(Outcome { figures: measured::figures(TESTS, rounds)?, notes, details: json!({ "rounds": rounds }) })
}
