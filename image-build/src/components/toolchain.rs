//! The build host's tools: Go, and for programs with C in them gcc, pkg-config and development packages.
//! What is missing is named together with its Debian package, all of it at once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::module;
use super::table::{Cgo, Component};

/// Go as found on the build host.
#[derive(Debug)]
pub struct Go {
    /// What `go version` prints: release, operating system, architecture.
    pub banner: String,
    pub settings: Settings,
}

/// The part of `go env` that is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct Settings {
    pub goversion: String,
    pub goarch: String,
    pub gomodcache: PathBuf,
    pub goroot: PathBuf,
}

const GO_REMEDY: &str = "install Go (Debian package golang-go, or https://go.dev/dl/ where that is older) and put it into PATH";

impl Go {
    /// Asks the Go in PATH.
    pub fn find() -> Result<Self> {
        let banner = output(command(Path::new(".")).arg("version"))?.with_context(|| format!("go: not found in PATH; {GO_REMEDY}"))?;
        let json = output(command(Path::new(".")).args(["env", "-json", "GOVERSION", "GOARCH", "GOMODCACHE", "GOROOT"]))?;
        let settings = serde_json::from_str(&json.unwrap_or_default()).context("reading what go env prints")?;
        Ok(Self { banner, settings })
    }

    /// Refuses a Go that is older than a go.mod asks for.
    pub fn check(&self, want: &str) -> Result<()> {
        let have = &self.settings.goversion;
        ensure!(module::at_least(have, want), "go is {have}; expected {want} or newer: {GO_REMEDY}");
        Ok(())
    }
}

/// A `go` that runs in `folder` and takes from the user's environment only where modules come from and caches are.
pub fn command(folder: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder)
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOOS", "linux")
        .env("CGO_ENABLED", "0");
    for name in ["GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOFIPS140", "CC", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_LDFLAGS"] {
        go.env_remove(name);
    }
    go
}

/// Compiler and libraries that the component's C parts are built with, as name and version. Empty when it has none.
pub fn native(component: &Component) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    let cgo: Vec<&Cgo> = component.builds.iter().filter_map(|build| build.cgo.as_ref()).collect();
    if cgo.is_empty() {
        return Ok(found);
    }
    match output(Command::new("gcc").arg("-dumpfullversion"))? {
        Some(version) => drop(found.insert("gcc".to_owned(), version)),
        None => missing.push("gcc (Debian packages gcc and libc6-dev)".to_owned()),
    }
    let pkg_config = output(Command::new("pkg-config").arg("--version"))?;
    if pkg_config.is_none() {
        missing.push("pkg-config (Debian package pkg-config)".to_owned());
    }
    for library in cgo.iter().flat_map(|cgo| &cgo.libraries) {
        let version = match pkg_config {
            Some(_) => output(Command::new("pkg-config").args(["--modversion", library]))?,
            None => None,
        };
        match version {
            Some(version) => drop(found.insert(library.clone(), version)),
            None => missing.push(format!("headers and static library of {library} (Debian package {library}-dev)")),
        }
    }
    ensure!(missing.is_empty(), "{} cannot be built here; missing: {}", component.name, missing.join(", "));
    Ok(found)
}

/// Standard output of a short command, trimmed; `None` when there is no such program or it says no.
fn output(command: &mut Command) -> Result<Option<String>> {
    match command.output() {
        Ok(result) if result.status.success() => Ok(Some(String::from_utf8_lossy(&result.stdout).trim().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("starting {:?}: {error}", command.get_program()),
    }
}
