//! The .deb files of a build: from the cache, from the mirror, or from an archive mirror, always checked against the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

use crate::apt::mirrors::{Environment, Mirrors};
use crate::apt::{Apt, Candidate};
use crate::digest;
use crate::lock::{Lock, Package};

/// Where packages come from and what happens when a mirror has dropped a version.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Of the private apt root and the cache.
    pub directory: PathBuf,
    pub environment: Environment,
    /// Base addresses that keep old versions, tried in order.
    pub archive_mirrors: Vec<String>,
}

/// The mirror has these versions no more, and no archive mirror had them.
#[derive(Debug)]
pub struct Dropped(pub Vec<String>);

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no longer on the mirror: {}", self.0.join(", "))
    }
}

impl std::error::Error for Dropped {}

/// The cache, and the way to the mirror, which is opened only when the cache lacks something.
#[derive(Debug)]
pub struct Store {
    sources: Sources,
    apt: Option<Apt>,
    updated: bool,
}

impl Store {
    pub fn open(sources: Sources) -> Result<Store> {
        let archives = sources.directory.join("archives");
        fs::create_dir_all(&archives).with_context(|| format!("making {}", archives.display()))?;
        Ok(Store { sources, apt: None, updated: false })
    }

    /// Held while the apt root is in use: builds share it, one at a time. What lies in the cache is whole and can be read without.
    fn exclusive(&self) -> Result<File> {
        let path = self.sources.directory.join("in-use");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }

    fn apt(&mut self) -> Result<&Apt> {
        if self.apt.is_none() {
            let mirrors = Mirrors::find(&self.sources.environment, Path::new("/etc"))?;
            self.apt = Some(Apt::open(&self.sources.directory, &mirrors)?);
        }
        self.apt.as_ref().context("apt root")
    }

    /// Resolves names anew from the mirror.
    pub fn resolve(&mut self, asked: &BTreeSet<String>) -> Result<Lock> {
        let _exclusive = self.exclusive()?;
        self.updated = true;
        Lock::resolve(self.apt()?, asked)
    }

    /// Paths of these packages' files, by name. An error holds [`Dropped`] when versions cannot be had any more.
    pub fn fetch(&mut self, packages: &[&Package]) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        let mut wanted = Vec::new();
        for package in packages {
            let path = self.cached(package);
            if path.is_file() {
                verify(&path, package).with_context(|| format!("delete {} and repeat", path.display()))?;
                found.insert(package.name.clone(), path);
            } else {
                wanted.push(*package);
            }
        }
        if !wanted.is_empty() {
            self.download(&wanted)?;
            found.extend(wanted.iter().map(|package| (package.name.clone(), self.cached(package))));
        }
        Ok(found)
    }

    fn cached(&self, package: &Package) -> PathBuf {
        self.sources.directory.join("archives").join(format!("{}.deb", package.sha256))
    }

    fn download(&mut self, wanted: &[&Package]) -> Result<()> {
        let _exclusive = self.exclusive()?;
        let archives = self.sources.directory.join("archives");
        let bases = self.sources.archive_mirrors.clone();
        let update = !std::mem::replace(&mut self.updated, true);
        let apt = self.apt()?;
        if update {
            apt.update()?;
        }
        let (mut served, mut missing) = (Vec::new(), Vec::new());
        for package in wanted {
            match apt.record(&package.name, &package.version)? {
                Some(record) => {
                    let signed = record.get("SHA256").unwrap_or_default();
                    if signed != package.sha256 {
                        bail!(
                            "{} {}: checksum differs: configs/packages.lock has SHA-256 {}, Debian's signed index {signed}",
                            package.name,
                            package.version,
                            package.sha256
                        );
                    }
                    served.push(*package);
                }
                None => missing.push(*package),
            }
        }
        let temporary = tempfile::Builder::new().prefix("download-").tempdir_in(&archives).context("making a download directory")?;
        let mut fetched = Vec::new();
        if !served.is_empty() {
            let candidates: Vec<Candidate> =
                served.iter().map(|p| Candidate { name: p.name.clone(), version: p.version.clone() }).collect();
            apt.download(&candidates, temporary.path())?;
            for package in &served {
                fetched.push((*package, temporary.path().join(file_name(package))));
            }
        }
        let mut dropped = Vec::new();
        for package in missing {
            match from_archive(apt, &bases, package, temporary.path())? {
                Some(path) => fetched.push((package, path)),
                None => dropped.push(format!("{} {}", package.name, package.version)),
            }
        }
        for (package, path) in fetched {
            verify(&path, package)?;
            let target = archives.join(format!("{}.deb", package.sha256));
            fs::rename(&path, &target).with_context(|| format!("moving to {}", target.display()))?;
        }
        if dropped.is_empty() { Ok(()) } else { Err(Dropped(dropped).into()) }
    }
}

/// The name under which `apt-get download` stores a package: a version's colon is escaped.
fn file_name(package: &Package) -> String {
    format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), package.architecture)
}

fn from_archive(apt: &Apt, bases: &[String], package: &Package, into: &Path) -> Result<Option<PathBuf>> {
    let target = into.join(format!("{}.deb", package.sha256));
    let mut refusals = Vec::new();
    for base in bases {
        match apt.download_file(&format!("{}/{}", base.trim_end_matches('/'), package.file), &target, &package.sha256) {
            Ok(()) => return Ok(Some(target)),
            Err(error) => refusals.push(format!("{error:#}")),
        }
    }
    for refusal in refusals {
        eprintln!("image-build: archive mirror: {refusal}");
    }
    Ok(None)
}

fn verify(path: &Path, package: &Package) -> Result<()> {
    let found = digest::file(path)?;
    if found != package.sha256 {
        bail!(
            "{} {}: checksum differs: {} has SHA-256 {found}, configs/packages.lock {}",
            package.name,
            package.version,
            path.display(),
            package.sha256
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::tests::locked;

    fn store(directory: &Path) -> Store {
        let environment = Environment {
            mirror: Some(format!("file:{}/no-mirror", directory.display())),
            security_mirror: Some("file:/nonexistent".into()),
        };
        Store::open(Sources { directory: directory.to_owned(), environment, archive_mirrors: vec![] }).unwrap()
    }

    #[test]
    fn takes_what_the_cache_has_without_asking_a_mirror() {
        let directory = tempfile::tempdir().unwrap();
        let mut package = locked("a", "1", &[]);
        package.sha256 = digest::bytes(b"content");
        let mut store = store(directory.path());
        fs::write(store.cached(&package), "content").unwrap();
        let found = store.fetch(&[&package]).unwrap();
        assert_eq!(fs::read(&found["a"]).unwrap(), b"content");
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_named_with_both_digests() {
        let directory = tempfile::tempdir().unwrap();
        let mut package = locked("a", "1", &[]);
        package.sha256 = digest::bytes(b"content");
        let mut store = store(directory.path());
        fs::write(store.cached(&package), "other").unwrap();
        let error = format!("{:#}", store.fetch(&[&package]).unwrap_err());
        assert!(
            error.contains("checksum differs") && error.contains(&digest::bytes(b"other")) && error.contains(&package.sha256),
            "{error}"
        );
    }

    #[test]
    fn file_names_escape_epochs() {
        assert_eq!(file_name(&locked("zlib1g", "1:1.3+really1", &[])), "zlib1g_1%3a1.3+really1_amd64.deb");
    }
}
