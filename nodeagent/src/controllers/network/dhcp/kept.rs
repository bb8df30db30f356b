//! Leases for an agent that starts anew in the same boot: the machine uses its address meanwhile, and must not be without it until a server has
//! answered. They lie in /run, which ends with the boot, as does the time that they count in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use machine::Root;

use super::Of;
use super::client::Held;

const DIRECTORY: &str = "/run/corten/leases";

/// Between link and family stands a character that no link's name has.
const BETWEEN: &str = ":";

fn path(root: &Root, of: &Of) -> PathBuf {
    root.path(&format!("{DIRECTORY}/{}", of.to_string().replace('/', BETWEEN)))
}

pub fn keep(root: &Root, of: &Of, held: &Held) -> anyhow::Result<()> {
    crate::files::write(&path(root, of), &serde_json::to_vec(held)?, 0o600).context("keeping a lease for the agent's next start")
}

pub fn forget(root: &Root, of: &Of) -> anyhow::Result<()> {
    crate::files::remove(&path(root, of))
}

/// Those that have not ended.
pub fn recall(root: &Root, now: Duration) -> BTreeMap<Of, Held> {
    let entries = fs::read_dir(root.path(DIRECTORY)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let clients = names.map(|name| Of::named(&name.replace(BETWEEN, "/")));
    clients.filter_map(|of| recall_one(root, &of, now).map(|held| (of, held))).collect()
}

pub fn recall_one(root: &Root, of: &Of, now: Duration) -> Option<Held> {
    let bytes = fs::read(path(root, of)).ok()?;
    match serde_json::from_slice::<Held>(&bytes) {
        Ok(held) => Some(held).filter(|held| now < held.end()),
        // A new one is asked for.
        Err(error) => {
            tracing::warn!(lease = %of, "a lease that was kept cannot be read: {error}");
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
        let [first, second, third] = ["eth0", "eth0/ipv6", "eth1"].map(Of::named);
        keep(&root, &first, &held).unwrap();
        keep(&root, &second, &held).unwrap();
        fs::write(path(&root, &third), "{").unwrap();
        assert_eq!(recall(&root, seconds(179)), [(first.clone(), held.clone()), (second.clone(), held)].into());
        assert_eq!(recall(&root, seconds(180)), BTreeMap::new());
        for of in [&first, &first, &second] {
            forget(&root, of).unwrap();
        }
        assert_eq!(recall(&root, seconds(0)), BTreeMap::new());
    }
}
