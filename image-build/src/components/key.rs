//! The content key of a component: equal keys mean equal inputs of its build, so the output can be taken from the cache.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Raised when builds or records are made differently from equal inputs (compiler flags, fields of component.json).
const RECIPE: &str = "4";

/// Everything a component's output depends on.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The component's entry of the table, serialised.
    pub entry: String,
    /// What `go version` prints.
    pub go: String,
    /// GOARCH.
    pub arch: String,
    /// C compiler and libraries with their versions, for programs with C in them.
    pub native: BTreeMap<String, String>,
    /// go.mod, go.sum and the Go sources of the component's folder, by relative path.
    pub sources: BTreeMap<String, Vec<u8>>,
}

/// SHA-256 over the inputs, in hexadecimal.
pub fn key(inputs: &Inputs) -> String {
    let mut hash = Sha256::new();
    // Each item goes in with its length, so that no two lists of items look the same.
    let mut add = |item: &[u8]| {
        hash.update((item.len() as u64).to_le_bytes());
        hash.update(item);
    };
    add(RECIPE.as_bytes());
    add(inputs.entry.as_bytes());
    add(inputs.go.as_bytes());
    add(inputs.arch.as_bytes());
    add(&(inputs.native.len() as u64).to_le_bytes());
    for (name, version) in &inputs.native {
        add(name.as_bytes());
        add(version.as_bytes());
    }
    for (path, content) in &inputs.sources {
        add(path.as_bytes());
        add(content);
    }
    hex::encode(hash.finalize())
}

/// Reads go.mod, go.sum and all Go sources below `folder`.
pub fn sources(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut sources = BTreeMap::new();
    collect(folder, folder, &mut sources)?;
    Ok(sources)
}

fn collect(top: &Path, folder: &Path, sources: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let reading = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.is_dir() {
            collect(top, &path, sources)?;
        } else if path.extension().is_some_and(|e| e == "go" || e == "mod" || e == "sum") {
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let relative = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
            sources.insert(relative, content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        Inputs {
            entry: "{\"name\":\"x\"}".into(),
            go: "go version go1.26.8 linux/amd64".into(),
            arch: "amd64".into(),
            native: BTreeMap::from([("gcc".into(), "12.2".into())]),
            sources: BTreeMap::from([("go.mod".into(), b"module x".to_vec()), ("main.go".into(), b"package main".to_vec())]),
        }
    }

    #[test]
    fn the_key_changes_with_every_input() {
        let changes: [fn(&mut Inputs); 9] = [
            |_| (),
            |i| i.entry.push(' '),
            |i| i.go = "go version go1.26.9 linux/amd64".into(),
            |i| i.arch = "arm64".into(),
            |i| drop(i.native.insert("gcc".into(), "14.2".into())),
            |i| i.native.clear(),
            |i| drop(i.sources.insert("go.mod".into(), b"module y".to_vec())),
            |i| drop(i.sources.insert("sub/more.go".into(), Vec::new())),
            |i| {
                let content = i.sources.remove("main.go").expect("present");
                i.sources.insert("node.go".into(), content);
            },
        ];
        let keys: std::collections::BTreeSet<String> = changes
            .iter()
            .map(|change| {
                let mut changed = inputs();
                change(&mut changed);
                key(&changed)
            })
            .collect();
        assert_eq!(keys.len(), changes.len(), "two different inputs share a key");
        assert_eq!(key(&inputs()), key(&inputs()));
    }

    #[test]
    fn sources_are_found_in_sub_folders_and_other_files_are_left_out() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(folder.path().join("node")).expect("folder");
        for name in ["go.mod", "go.sum", "node/main.go", "README.md"] {
            std::fs::write(folder.path().join(name), name).expect("file");
        }
        let found: Vec<String> = sources(folder.path()).expect("sources").into_keys().collect();
        assert_eq!(found, ["go.mod", "go.sum", "node/main.go"]);
    }
}
