//! Looks into finished programs: which Go modules and native libraries are in them, and under which licences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::record::{BuiltFile, GoModule, Record};
use super::table::{Build, Component};
use super::toolchain::{self, Go};
use crate::sbom::host;
use crate::sbom::licence::Detector;

/// The part of `go version -m -json` that is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuildInfo {
    go_version: String,
    /// The module of the program's main package.
    main: Dependency,
    #[serde(default)]
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dependency {
    path: String,
    #[serde(default)]
    version: String,
    sum: Option<String>,
    replace: Option<Box<Dependency>>,
}

/// Version of what lies in a folder instead of the module cache.
const LOCAL: &str = "(devel)";

/// Describes the programs that `component`'s build left in `bin`. `folder` is where its go.mod is.
pub fn inspect(component: &Component, version: &str, key: &str, folder: &Path, bin: &Path, go: &Go) -> Result<Record> {
    let detector = Detector::load()?;
    let mut record = Record {
        component: component.name.clone(),
        module: component.module.clone(),
        version: version.to_owned(),
        key: key.to_owned(),
        arch: go.settings.goarch.clone(),
        files: Vec::new(),
        modules: BTreeMap::new(),
        native: BTreeMap::new(),
    };
    for build in &component.builds {
        let native = native_packages(build);
        for name in &native {
            record.native.entry(name.clone()).or_insert_with(|| host::package(name));
        }
        for (name, package) in &build.files {
            let path = bin.join(name);
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let info = build_info(&path)?;
            let mut modules = vec![add(&mut record, &detector, "std", &info.go_version, None, &go.settings.goroot)?];
            // Our own folders of main packages have no version.
            let main = Some(&info.main).filter(|main| main.version != LOCAL);
            for dependency in main.into_iter().chain(&info.deps) {
                let (version, code, sources) = located(dependency, folder, &go.settings.gomodcache);
                modules.push(add(&mut record, &detector, &code.path, version, code.sum.clone(), &sources)?);
            }
            modules.sort();
            record.files.push(BuiltFile {
                name: name.clone(),
                package: package.clone(),
                bytes: content.len() as u64,
                sha256: hex::encode(Sha256::digest(&content)),
                modules,
                native: native.clone(),
            });
        }
    }
    record.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(record)
}

/// Adds a module to the record unless it is there, and returns its key.
fn add(record: &mut Record, detector: &Detector, path: &str, version: &str, sum: Option<String>, sources: &Path) -> Result<String> {
    let key = format!("{path}@{version}");
    if !record.modules.contains_key(&key) {
        let licence = detector.folder(sources).with_context(|| format!("looking for the licence of {key}"))?;
        record.modules.insert(key.clone(), GoModule { path: path.to_owned(), version: version.to_owned(), sum, licence });
    }
    Ok(key)
}

/// Version, identity and source folder of a dependency: what replaces it, where it is replaced.
fn located<'a>(dependency: &'a Dependency, folder: &Path, cache: &Path) -> (&'a str, &'a Dependency, PathBuf) {
    match &dependency.replace {
        // Replaced by a folder of this repository.
        Some(local) if local.version.is_empty() || local.version == LOCAL => (&dependency.version, dependency, folder.join(&local.path)),
        Some(other) => (&other.version, other, cached(cache, &other.path, &other.version)),
        None => (&dependency.version, dependency, cached(cache, &dependency.path, &dependency.version)),
    }
}

/// Where Go's module cache has a module's sources: upper-case letters are written as `!` and the lower-case letter.
pub fn cached(cache: &Path, path: &str, version: &str) -> PathBuf {
    let mut escaped = String::new();
    for c in format!("{path}@{version}").chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    cache.join(escaped)
}

fn build_info(program: &Path) -> Result<BuildInfo> {
    let output = toolchain::command(Path::new("/")).args(["version", "-m", "-json"]).arg(program).output().context("starting go")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "go version -m {}: {}", program.display(), complaint.trim());
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading the build information of {}", program.display()))
}

/// The Debian packages whose static libraries a build links.
fn native_packages(build: &Build) -> Vec<String> {
    let Some(cgo) = &build.cgo else { return Vec::new() };
    let mut packages: Vec<String> = cgo.libraries.iter().map(|library| format!("{library}-dev")).collect();
    packages.push(host::LIBC.to_owned());
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_are_escaped_as_in_the_module_cache() {
        let found = cached(Path::new("/cache"), "github.com/Azure/go-ansiterm", "v0.0.1-RC1");
        assert_eq!(found, Path::new("/cache/github.com/!azure/go-ansiterm@v0.0.1-!r!c1"));
    }

    #[test]
    fn a_replacement_is_what_counts() {
        let info: BuildInfo = serde_json::from_str(
            r#"{"GoVersion": "go1.26.8", "Main": {"Path": "corten.dev/x", "Version": "(devel)"}, "Deps": [
                {"Path": "k8s.io/api", "Version": "v0.0.0", "Replace": {"Path": "k8s.io/api", "Version": "v0.37.1", "Sum": "h1:x"}},
                {"Path": "a/b", "Version": "v1.0.0", "Replace": {"Path": "./up", "Version": "(devel)"}}
            ]}"#,
        )
        .expect("build information");
        let (version, code, sources) = located(&info.deps[0], Path::new("/x"), Path::new("/cache"));
        assert_eq!((version, code.path.as_str(), sources), ("v0.37.1", "k8s.io/api", PathBuf::from("/cache/k8s.io/api@v0.37.1")));
        let (version, code, sources) = located(&info.deps[1], Path::new("/x"), Path::new("/cache"));
        assert_eq!((version, code.path.as_str(), sources), ("v1.0.0", "a/b", PathBuf::from("/x/./up")));
    }
}
