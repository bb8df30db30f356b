//! Gathers the parts of an image: programs of the workspace with their crates, components with their Go modules, Debian packages.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::copyright::{self, Copyright};
use super::crates;
use super::host;
use super::licence::Licence;
use super::parts::{Key, Kind, Part, Parts};
use super::programs::{Origin, Program};
use crate::components::record::{NativePackage, RECORD, Record};
use crate::deb::{self, Entry};
use crate::digest;
use crate::lock;

/// Where to look things up.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Folder of the workspace's Cargo.lock.
    pub workspace: &'a Path,
    /// Folder with `<component>/component.json`.
    pub components: &'a Path,
    /// Rust target that programs of the workspace are built for.
    pub target: &'a str,
}

/// Adds the Debian packages of an image from their .deb files.
pub fn debian(parts: &mut Parts, packages: &[(lock::Package, PathBuf)]) -> Result<()> {
    for (package, file) in packages {
        let copyright = match documents(&package.name, file)? {
            Documents::Own(text) => copyright::read(&package.name, &text),
            Documents::Of(other) => match packages.iter().find(|(package, _)| package.name == other) {
                Some((_, file)) => match documents(&other, file)? {
                    Documents::Own(text) => copyright::read(&other, &text),
                    _ => Copyright::unknown(format!("its documents are those of {other}, whose .deb has no copyright file")),
                },
                None => Copyright::unknown(format!("its documents are those of {other}, which is not in the image")),
            },
            Documents::None => Copyright::unknown("its .deb has no copyright file"),
        };
        parts.texts.extend(copyright.texts);
        parts.contain(Part {
            kind: Kind::DebianPackage,
            name: package.name.clone(),
            version: package.version.clone(),
            licence: copyright.licence,
            sha256: Some(package.sha256.clone()),
            place: None,
            purl: Some(debian_purl(&package.name, &package.version, &package.architecture)),
            origin: Some(format!("Debian source package {}", package.source)),
        });
    }
    Ok(())
}

/// Where a package's copyright file is.
enum Documents {
    Own(String),
    /// Packages of one source may share a folder of documents by a link.
    Of(String),
    None,
}

fn documents(package: &str, deb: &Path) -> Result<Documents> {
    let folder = format!("/usr/share/doc/{package}");
    let file = format!("{folder}/copyright");
    let found = deb::read(deb, |path| path == folder || path == file)?;
    Ok(match (found.0.get(&file), found.0.get(&folder)) {
        (Some(Entry::File { bytes, .. }), _) => Documents::Own(String::from_utf8_lossy(bytes).into_owned()),
        (None, Some(Entry::Link(target))) => Documents::Of(target.rsplit('/').next().unwrap_or(target).to_owned()),
        _ => Documents::None,
    })
}

/// Adds a program and everything that is linked into it.
pub fn program(parts: &mut Parts, program: &Program, sources: &Sources<'_>) -> Result<()> {
    match &program.origin {
        Origin::Workspace { program: name } => workspace_program(parts, program, name, sources),
        Origin::Component { name, file } => component_program(parts, program, name, file, sources),
    }
    .with_context(|| format!("listing the parts of {}", program.place))
}

fn workspace_program(parts: &mut Parts, program: &Program, name: &str, sources: &Sources<'_>) -> Result<()> {
    let crates::Program { package, linked } = crates::program(sources.workspace, name, sources.target)?;
    let key = parts.contain(Part {
        kind: Kind::Program,
        name: name.to_owned(),
        version: package.version,
        licence: package.licence,
        sha256: Some(digest::file(&program.file)?),
        place: Some(program.place.clone()),
        purl: None,
        origin: Some(format!("package {} of the Corten workspace", package.name)),
    });
    for found in &linked {
        let purl = found.sha256.as_ref().map(|_| format!("pkg:cargo/{}@{}", found.name, found.version));
        parts.link(
            &key,
            Part {
                kind: Kind::Crate,
                name: found.name.clone(),
                version: found.version.clone(),
                licence: found.licence.clone(),
                sha256: found.sha256.clone(),
                place: None,
                purl,
                origin: None,
            },
        );
    }
    parts.link(
        &key,
        Part {
            kind: Kind::Crate,
            name: "std".to_owned(),
            version: crates::rust_release()?,
            licence: Licence::Expression("MIT OR Apache-2.0".to_owned()),
            sha256: None,
            place: None,
            purl: None,
            origin: Some("the Rust standard library".to_owned()),
        },
    );
    native(parts, &key, host::LIBC, &host::package(host::LIBC));
    Ok(())
}

fn component_program(parts: &mut Parts, program: &Program, name: &str, file: &str, sources: &Sources<'_>) -> Result<()> {
    let path = sources.components.join(name).join(RECORD);
    let record = Record::read(&path)?;
    let built = record.files.iter().find(|built| built.name == file).with_context(|| format!("{}: no file {file}", path.display()))?;
    let sha256 = digest::file(&program.file)?;
    ensure!(
        built.sha256 == sha256,
        "{} has SHA-256 {sha256}, {} says {}; build the components again",
        program.file.display(),
        path.display(),
        built.sha256
    );
    let own = record.modules.values().find(|module| module.path == record.module);
    let own = own.with_context(|| format!("{}: its modules do not include {}", path.display(), record.module))?;
    let key = parts.contain(Part {
        kind: Kind::Program,
        name: file.to_owned(),
        version: record.version.clone(),
        licence: own.licence.clone(),
        sha256: Some(sha256),
        place: Some(program.place.clone()),
        purl: None,
        origin: Some(format!("Go package {} of component {name}", built.package)),
    });
    for module in &built.modules {
        let module = record.modules.get(module).with_context(|| format!("{}: no module {module}", path.display()))?;
        // The standard library's purl is agreed on by scanners; its version has no `go` in front.
        let purl = match module.path.as_str() {
            "std" => format!("pkg:golang/stdlib@{}", module.version.trim_start_matches("go")),
            path => format!("pkg:golang/{}@{}", path.to_lowercase(), module.version),
        };
        parts.link(
            &key,
            Part {
                kind: Kind::GoModule,
                name: module.path.clone(),
                version: module.version.clone(),
                licence: module.licence.clone(),
                sha256: None,
                place: None,
                purl: Some(purl),
                origin: module.sum.as_ref().map(|sum| format!("go.sum {sum}")),
            },
        );
    }
    for library in &built.native {
        let package = record.native.get(library).with_context(|| format!("{}: no package {library}", path.display()))?;
        native(parts, &key, library, package);
    }
    Ok(())
}

/// Adds a static library that came from a Debian package of the build host.
fn native(parts: &mut Parts, program: &Key, name: &str, package: &NativePackage) {
    parts.texts.extend(package.copyright.texts.clone());
    parts.link(
        program,
        Part {
            kind: Kind::DebianPackage,
            name: name.to_owned(),
            version: package.version.clone(),
            licence: package.copyright.licence.clone(),
            sha256: None,
            place: None,
            purl: Some(format!("pkg:deb/debian/{name}@{}", escaped(&package.version))),
            origin: Some("static library of the build host's Debian package".to_owned()),
        },
    );
}

fn debian_purl(name: &str, version: &str, architecture: &str) -> String {
    format!("pkg:deb/debian/{}@{}?arch={architecture}", escaped(name), escaped(version))
}

/// Percent-encodes what a package URL gives a meaning to.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-._~".contains(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_escaped() {
        assert_eq!(
            debian_purl("libstdc++6", "1:14.2.0-19+deb13u1", "amd64"),
            "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19%2Bdeb13u1?arch=amd64"
        );
    }
}
