//! The image archives of the root: OCI Image Layouts in tar files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::Root;
use serde::Deserialize;

/// An archive with one image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Archive {
    /// Name with tag, such as `corten.dev/pause:0.1.0`.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    pub path: PathBuf,
}

/// index.json, as far as it is of interest.
#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    annotations: Annotations,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    /// By which containerd names what it imports.
    #[serde(rename = "io.containerd.image.name")]
    name: String,
}

/// All of a directory, the smallest first: every pod needs the pause image.
pub fn read_all(directory: &Path) -> anyhow::Result<Vec<Archive>> {
    let reading = || format!("reading the image archives in {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if entry.path().extension().is_some_and(|extension| extension == "tar") {
            paths.push((entry.metadata().with_context(reading)?.len(), entry.path()));
        }
    }
    paths.sort();
    paths.into_iter().map(|(_, path)| read(&path)).collect()
}

/// The sandbox image that came with the root.
pub fn pause(root: &Root) -> anyhow::Result<Archive> {
    read(&root.image_archives().join("pause.tar"))
}

fn read(path: &Path) -> anyhow::Result<Archive> {
    let reading = || format!("reading the image archive {}", path.display());
    let mut archive = tar::Archive::new(File::open(path).with_context(reading)?);
    for entry in archive.entries().with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if entry.path().with_context(reading)?.as_os_str() == "index.json" {
            let index: Index = serde_json::from_reader(entry).with_context(reading)?;
            let found = <[Descriptor; 1]>::try_from(index.manifests);
            let [image] = found.map_err(|found| anyhow::anyhow!("{}: {} images; expected one", path.display(), found.len()))?;
            return Ok(Archive { name: image.annotations.name, digest: image.digest, path: path.to_owned() });
        }
    }
    anyhow::bail!("{}: no index.json; expected an OCI image layout", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, index: &str, padding: usize) {
        let mut builder = tar::Builder::new(File::create(directory.join(name)).unwrap());
        for (path, contents) in [("oci-layout", "{}".to_owned()), ("index.json", index.to_owned()), ("blob", "x".repeat(padding))] {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            builder.append_data(&mut header, path, contents.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
    }

    fn index(name: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"sha256:1","size":3,"annotations":{{"io.containerd.image.name":"{name}"}}}}]}}"#
        )
    }

    #[test]
    fn small_ones_first() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.tar", &index("corten.dev/a:1"), 100_000);
        write(directory.path(), "b.tar", &index("corten.dev/b:1"), 10);
        std::fs::write(directory.path().join("README"), "no archive").unwrap();
        let names: Vec<String> = read_all(directory.path()).unwrap().into_iter().map(|archive| archive.name).collect();
        assert_eq!(names, ["corten.dev/b:1", "corten.dev/a:1"]);
    }

    #[test]
    fn others_are_named() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.tar", r#"{"manifests":[]}"#, 0);
        let error = read_all(directory.path()).unwrap_err();
        assert!(format!("{error:#}").contains("a.tar: 0 images"), "{error:#}");
    }
}
