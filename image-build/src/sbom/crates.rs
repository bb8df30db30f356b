//! The Rust crates that are linked into a program of this workspace, as cargo resolves them: build scripts and procedural macros are not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::licence::Licence;

/// A crate at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub licence: Licence,
    /// SHA-256 of the published crate; none for crates of this workspace.
    pub sha256: Option<String>,
}

/// What cargo says about a program of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The workspace's package that it belongs to.
    pub package: Crate,
    /// The crates that package links. Cargo counts them per package, so a package with several programs gives each of them all.
    pub linked: Vec<Crate>,
}

/// Looks up `program` of the workspace at `workspace`, as built for `target`.
pub fn program(workspace: &Path, program: &str, target: &str) -> Result<Program> {
    let path = workspace.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let metadata = cargo(workspace, &["metadata", "--no-deps", "--format-version", "1"])?;
    let package = package_of(program, &metadata)?;
    let edges = ["--edges", "normal,no-proc-macro", "--target", target, "--package", &package];
    let tree = cargo(workspace, &[&["tree", "--prefix", "none", "--format", "{p}|{l}"], &edges[..]].concat())?;
    let (own, linked): (Vec<Crate>, Vec<Crate>) = parse(&tree, &lock)?.into_iter().partition(|found| found.name == package);
    let package = own.into_iter().next().with_context(|| format!("cargo tree does not list {package} itself"))?;
    Ok(Program { package, linked })
}

/// Output of a cargo command that changes nothing and needs no network.
fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).args(["--locked", "--offline", "--quiet"]).current_dir(workspace);
    let output = cargo.output().context("starting cargo")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {}", arguments.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The package that has a program of this name.
fn package_of(program: &str, metadata: &str) -> Result<String> {
    let metadata: Metadata = serde_json::from_str(metadata).context("reading what cargo metadata prints")?;
    let is_program = |target: &Target| target.name == program && target.kind.iter().any(|kind| kind == "bin");
    let package = metadata.packages.into_iter().find(|package| package.targets.iter().any(is_program));
    package.map(|package| package.name).with_context(|| format!("no package of the workspace has a program {program}"))
}

/// Release of the compiler, which is that of the standard library.
pub fn rust_release() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1).map(str::to_owned).with_context(|| format!("rustc --version said {text:?}"))
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Puts what cargo tree printed, `name vVERSION[ (place)]|licence[ (*)]`, together with the lock file's checksums.
fn parse(tree: &str, lock: &str) -> Result<Vec<Crate>> {
    let lock: Lock = toml::from_str(lock).context("in Cargo.lock")?;
    let checksums: BTreeMap<(&str, &str), &Option<String>> =
        lock.package.iter().map(|locked| ((locked.name.as_str(), locked.version.as_str()), &locked.checksum)).collect();
    let mut crates = BTreeMap::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let strange = || format!("cargo tree printed {line:?}; expected name, version and licence");
        let (package, licence) = line.split_once('|').with_context(strange)?;
        let mut words = package.split_whitespace();
        let name = words.next().with_context(strange)?;
        let version = words.next().and_then(|version| version.strip_prefix('v')).with_context(strange)?;
        let checksum = checksums.get(&(name, version)).with_context(|| format!("{name} {version} is not in Cargo.lock"))?;
        let licence = expression(licence.trim_end_matches("(*)").trim());
        crates.insert((name, version), Crate { name: name.to_owned(), version: version.to_owned(), licence, sha256: (*checksum).clone() });
    }
    Ok(crates.into_values().collect())
}

/// Cargo's `license` field in SPDX's spelling: old crates write `/` for `OR`.
fn expression(field: &str) -> Licence {
    if field.is_empty() {
        return Licence::Unknown("its Cargo.toml names no licence".to_owned());
    }
    let written = match spdx::Expression::canonicalize(field) {
        Ok(Some(canonical)) => canonical,
        Ok(None) => field.to_owned(),
        Err(_) => return Licence::Unknown(format!("its Cargo.toml says {field:?}, which is not SPDX")),
    };
    match spdx::Expression::parse(&written) {
        Ok(_) => Licence::Expression(written),
        Err(_) => Licence::Unknown(format!("its Cargo.toml says {field:?}, which is not SPDX")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "init"
        version = "0.1.0"
        dependencies = ["bitflags"]
        [[package]]
        name = "bitflags"
        version = "2.9.0"
        source = "registry"
        checksum = "00ff"
    "#;

    #[test]
    fn crates_come_with_checksum_and_canonical_licence() {
        let tree = "init v0.1.0 (/src/init)|Apache-2.0\nbitflags v2.9.0|MIT/Apache-2.0\nbitflags v2.9.0|MIT/Apache-2.0 (*)\n";
        let found = parse(tree, LOCK).expect("crates");
        let expected = [("bitflags", "2.9.0", "MIT OR Apache-2.0", Some("00ff")), ("init", "0.1.0", "Apache-2.0", None)];
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                let Licence::Expression(licence) = &found.licence else { panic!("{:?}", found.licence) };
                (found.name.as_str(), found.version.as_str(), licence.as_str(), found.sha256.as_deref())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_program_belongs_to_the_package_that_builds_it() {
        let metadata = r#"{"packages": [
            {"name": "pause-lib", "targets": [{"name": "pause", "kind": ["lib"]}]},
            {"name": "image-build", "targets": [{"name": "image-build", "kind": ["bin"]}, {"name": "pause", "kind": ["bin"]}]}
        ]}"#;
        assert_eq!(package_of("pause", metadata).expect("package"), "image-build");
        assert!(package_of("nothere", metadata).expect_err("unknown").to_string().contains("nothere"));
    }

    #[test]
    fn a_crate_that_is_not_locked_or_a_strange_line_is_an_error() {
        assert!(parse("other v1.0.0|MIT", LOCK).expect_err("not locked").to_string().contains("other 1.0.0"));
        assert!(parse("warning: x", LOCK).expect_err("strange").to_string().contains("warning: x"));
    }

    #[test]
    fn licences_that_are_not_spdx_are_unknown_with_the_reason() {
        assert_eq!(expression(""), Licence::Unknown("its Cargo.toml names no licence".into()));
        assert!(matches!(expression("Ask me"), Licence::Unknown(reason) if reason.contains("Ask me")));
    }
}
