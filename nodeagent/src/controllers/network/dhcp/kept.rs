//! Leases for an agent that starts anew in the same boot: the machine uses its address meanwhile, and must not be without it until a server has
//! answered. They lie in /run, which ends with the boot, as does the time that they count in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use machine::Root;

use super::client::Held;

const DIRECTORY: &str = "/run/corten/leases";

fn path(root: &Root, link: &str) -> PathBuf {
    root.path(&format!("{DIRECTORY}/{link}"))
}

pub fn keep(root: &Root, link: &str, held: &Held) -> anyhow::Result<()> {
    crate::files::write(&path(root, link), &serde_json::to_vec(held)?, 0o600).context("keeping a lease for the agent's next start")
}

pub fn forget(root: &Root, link: &str) -> anyhow::Result<()> {
    crate::files::remove(&path(root, link))
}

/// Those that have not ended, by link.
pub fn recall(root: &Root, now: Duration) -> BTreeMap<String, Held> {
    let entries = fs::read_dir(root.path(DIRECTORY)).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| entry.file_name().into_string().ok());
    links.filter_map(|link| recall_one(root, &link, now).map(|held| (link, held))).collect()
}

pub fn recall_one(root: &Root, link: &str, now: Duration) -> Option<Held> {
    let bytes = fs::read(path(root, link)).ok()?;
    match serde_json::from_slice::<Held>(&bytes) {
        Ok(held) => Some(held).filter(|held| now < held.end()),
        // A new one is asked for.
        Err(error) => {
            tracing::warn!(link, "a lease that was kept cannot be read: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::held;
    use super::*;

    #[test]
    fn a_lease_is_there_again_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let seconds = Duration::from_secs;
        assert_eq!(recall(&root, seconds(0)), BTreeMap::new());
        // For 80 s.
        let held = held(seconds(100));
        keep(&root, "eth0", &held).unwrap();
        fs::write(path(&root, "eth1"), "{").unwrap();
        assert_eq!(recall(&root, seconds(179)), [("eth0".to_owned(), held)].into());
        assert_eq!(recall(&root, seconds(180)), BTreeMap::new());
        forget(&root, "eth0").unwrap();
        forget(&root, "eth0").unwrap();
        assert_eq!(recall(&root, seconds(0)), BTreeMap::new());
    }
}
