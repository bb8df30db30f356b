//! The note on STATE that this machine holds etcd's cluster to an older version.

use anyhow::Context;
use machine::Root;
use machine::version::Minor;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::state_record::{self, Versioned};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    version: u32,
    /// `3.6`
    etcd: String,
}

impl Versioned for Hold {
    const VERSION: u32 = 1;
}

pub fn load(root: &Root) -> anyhow::Result<Option<Minor>> {
    let path = root.etcd_hold();
    let hold: Option<Hold> = state_record::read(&path)?;
    hold.map(|hold| hold.etcd.parse()).transpose().with_context(|| format!("reading {}", path.display()))
}

pub fn save(root: &Root, etcd: Minor) -> anyhow::Result<()> {
    let hold = Hold { version: Hold::VERSION, etcd: etcd.to_string() };
    files::write(&root.etcd_hold(), &serde_json::to_vec_pretty(&hold)?, 0o600)
}

pub fn forget(root: &Root) -> anyhow::Result<()> {
    files::remove(&root.etcd_hold())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_forgotten_and_of_a_later_release() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert_eq!(load(&root).unwrap(), None);
        save(&root, Minor { major: 3, minor: 6 }).unwrap();
        assert_eq!(load(&root).unwrap(), Some(Minor { major: 3, minor: 6 }));
        forget(&root).unwrap();
        assert_eq!(load(&root).unwrap(), None);
        std::fs::write(root.etcd_hold(), r#"{"version": 2, "etcd": "3.6"}"#).unwrap();
        assert!(load(&root).unwrap_err().to_string().contains("version 2 was written by a newer release"));
    }
}
