//! The content of locked packages: fetched and read when first asked for, and remembered as used when something was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use glob::{MatchOptions, Pattern};

use crate::deb::{self, Deb, Entry};
use crate::lock::{Lock, Package};
use crate::packages::Store;

#[derive(Debug)]
pub struct Contents<'a> {
    lock: &'a Lock,
    store: &'a mut Store,
    files: BTreeMap<String, PathBuf>,
    read: BTreeMap<String, Deb>,
    used: BTreeSet<String>,
}

impl<'a> Contents<'a> {
    pub fn new(lock: &'a Lock, store: &'a mut Store) -> Contents<'a> {
        Contents { lock, store, files: BTreeMap::new(), read: BTreeMap::new(), used: BTreeSet::new() }
    }

    pub fn lock(&self) -> &'a Lock {
        self.lock
    }

    /// Fetches many at once, which is faster than one by one.
    pub fn prefetch(&mut self, names: &BTreeSet<String>) -> Result<()> {
        let packages: Vec<&Package> = names.iter().map(|name| self.lock.require(name)).collect::<Result<_>>()?;
        self.files.extend(self.store.fetch(&packages)?);
        Ok(())
    }

    /// The package's .deb, which counts as used.
    pub fn file(&mut self, name: &str) -> Result<PathBuf> {
        self.used.insert(name.to_owned());
        self.fetched(name)
    }

    fn fetched(&mut self, name: &str) -> Result<PathBuf> {
        if !self.files.contains_key(name) {
            self.prefetch(&BTreeSet::from([name.to_owned()]))?;
        }
        self.files.get(name).cloned().with_context(|| format!("package {name} was not fetched"))
    }

    fn deb(&mut self, name: &str) -> Result<&Deb> {
        if !self.read.contains_key(name) {
            let deb = deb::read(&self.fetched(name)?, |path| !path.starts_with("/usr/share/man/"))?;
            self.read.insert(name.to_owned(), deb);
        }
        self.read.get(name).with_context(|| format!("package {name} was not read"))
    }

    /// What one path of a package is.
    pub fn entry(&mut self, package: &str, path: &str) -> Result<Option<Entry>> {
        let found = self.deb(package)?.0.get(path).cloned();
        if found.is_some() {
            self.used.insert(package.to_owned());
        }
        Ok(found)
    }

    /// Files of a package by a path or a pattern; no match is an error.
    pub fn matching(&mut self, package: &str, pattern: &str) -> Result<Vec<(String, Entry)>> {
        let matcher = Pattern::new(pattern).with_context(|| format!("package {package}: pattern {pattern:?}"))?;
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let entries = &self.deb(package)?.0;
        let found: Vec<_> =
            entries.iter().filter(|(path, _)| matcher.matches_with(path, options)).map(|(p, e)| (p.clone(), e.clone())).collect();
        if found.is_empty() {
            bail!("package {package} {}: no file {pattern}", self.lock.require(package)?.version);
        }
        self.used.insert(package.to_owned());
        Ok(found)
    }

    /// The bytes of one file, links followed within the package.
    pub fn bytes(&mut self, package: &str, path: &str) -> Result<Vec<u8>> {
        match self.entry(package, path)? {
            Some(Entry::File { bytes, .. }) => Ok(bytes),
            Some(Entry::Link(target)) => bail!("package {package}: {path} is a link to {target}, a file was expected"),
            None => bail!("package {package} {}: no file {path}", self.lock.require(package)?.version),
        }
    }

    /// Packages that something was taken from, with their files, by name.
    pub fn used(&self) -> Vec<(Package, PathBuf)> {
        let used = self.used.iter().filter_map(|name| Some((self.lock.find(name)?.clone(), self.files.get(name)?.clone())));
        used.collect()
    }
}
