//! Profiles of images in which something else stands at the place of one program, whoever that comes from: a link of the multi-call
//! program, a plugin, etcd. They lie in a folder of their own; the repository's stay as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use toml::{Table, Value};

/// A program of this workspace that no image has as a file: its name stands in the changed profile for what takes the place.
pub const NAME: &str = "hello";
/// Tables of a profile whose entries have the `path` at which something is put.
const PUT: [&str; 3] = ["link", "component", "program"];

/// Copies the profiles into the folder, with the stand-in at the place, and gives the path of the one that was asked for.
pub fn profile(profiles: &Path, name: &str, place: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let mut found = 0;
    for path in documents(profiles)? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut document: Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let relative = path.strip_prefix(profiles)?;
        if relative == Path::new(name).with_extension("toml") || relative.starts_with("parts") {
            found += take_out(&mut document, place);
        }
        if relative == Path::new(name).with_extension("toml") {
            put(&mut document, place);
        }
        let copy = folder.join(relative);
        fs::create_dir_all(copy.parent().context("a file's folder")?)?;
        fs::write(&copy, document.to_string())?;
    }
    ensure!(found == 1, "{place}: {found} entries of profile {name} put something there, expected one");
    Ok(folder.join(name).with_extension("toml"))
}

fn documents(profiles: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let in_folder = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
    };
    let all = [in_folder(profiles)?, in_folder(&profiles.join("parts"))?].concat();
    Ok(all.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect())
}

/// How many entries put something at the place; they are gone then.
fn take_out(document: &mut Table, place: &str) -> usize {
    let mut found = 0;
    for table in PUT {
        let Some(Value::Array(entries)) = document.get_mut(table) else { continue };
        let before = entries.len();
        entries.retain(|entry| entry.get("path").and_then(Value::as_str) != Some(place));
        found += before - entries.len();
    }
    found
}

fn put(document: &mut Table, place: &str) {
    let entry: Table = [("name", NAME), ("path", place)].map(|(key, value)| (key.to_owned(), Value::from(value))).into_iter().collect();
    let entries = document.entry("program").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(entries) = entries {
        entries.push(Value::Table(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place;

    #[test]
    fn one_place_is_taken_wherever_the_profiles_have_it() {
        let profiles = place::repository().join("configs/profiles");
        for place in ["/usr/bin/kubelet", "/usr/bin/etcd", "/usr/libexec/cni/bridge", "/usr/bin/nodeagent"] {
            let folder = tempfile::tempdir().expect("a directory");
            let changed = profile(&profiles, "controlplane", place, folder.path()).expect(place);
            let document: Table = toml::from_str(&fs::read_to_string(changed).expect("read")).expect("TOML");
            let programs = document["program"].as_array().expect("programs");
            let stand_ins = programs.iter().filter(|program| program["name"].as_str() == Some(NAME));
            assert_eq!(stand_ins.map(|program| program["path"].as_str()).collect::<Vec<_>>(), [Some(place)]);
            let again = tempfile::tempdir().expect("a directory");
            profile(folder.path(), "controlplane", place, again.path()).expect("nothing else is at the place by now");
        }
        let folder = tempfile::tempdir().expect("a directory");
        let error = profile(&profiles, "bare", "/usr/bin/etcd", folder.path()).unwrap_err().to_string();
        assert_eq!(error, "/usr/bin/etcd: 0 entries of profile bare put something there, expected one");
    }
}
