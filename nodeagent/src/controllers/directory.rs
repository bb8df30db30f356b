//! A directory whose files are all ours: what is wanted is written, everything else in it is removed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::file::File;

use crate::files;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Write(File),
    Remove(PathBuf),
}

/// What has to be done for `wanted` to be all that there is; `present` are the paths that are there, `stale` those wanted files that are not as
/// they should be.
pub fn plan(wanted: &[File], present: &[PathBuf], stale: &[File]) -> Vec<Action> {
    let paths: BTreeSet<&PathBuf> = wanted.iter().map(|file| &file.path).collect();
    let surplus = present.iter().filter(|path| !paths.contains(path)).cloned().map(Action::Remove);
    stale.iter().cloned().map(Action::Write).chain(surplus).collect()
}

/// Of the wanted files, those that are not on the disk as wanted.
pub fn stale(wanted: &[File]) -> Vec<File> {
    wanted.iter().filter(|file| !files::matches(file)).cloned().collect()
}

/// Every file under the directory, however deep.
pub fn list(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let listing = || format!("listing {}", directory.display());
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.with_context(listing)?,
        };
        for entry in entries {
            let entry = entry.with_context(listing)?;
            let sort = if entry.file_type().with_context(listing)?.is_dir() { &mut open } else { &mut found };
            sort.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

pub fn apply(action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Write(file) => files::write_if_changed(file).map(drop),
        Action::Remove(path) => files::remove(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::account::Account;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn applied_is_settled(before in proptest::collection::btree_map("[ab]/[xyz]", "[01]", 0..4), after in proptest::collection::btree_map("[ab]/[xyz]", "[01]", 0..4)) {
            let directory = tempfile::tempdir().unwrap();
            let files = |names: &std::collections::BTreeMap<String, String>| -> Vec<File> {
                let file = |(name, contents): (&String, &String)| File {
                    path: directory.path().join(name), mode: 0o600, account: Account::Root, contents: contents.clone().into_bytes(),
                };
                names.iter().map(file).collect()
            };
            for wanted in [files(&before), files(&after)] {
                for action in plan(&wanted, &list(directory.path()).unwrap(), &stale(&wanted)) {
                    apply(&action).unwrap();
                }
                let present = list(directory.path()).unwrap();
                prop_assert_eq!(plan(&wanted, &present, &stale(&wanted)), vec![]);
                prop_assert_eq!(present.len(), wanted.len());
            }
        }
    }
}
