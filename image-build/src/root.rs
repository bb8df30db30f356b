//! The root file system as a value: skeleton, files of packages and the libraries that they load, our programs, components, container
//! images, kernel modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use machine::disk::Volume;

use crate::archive;
use crate::contents::Contents;
use crate::deb::Entry;
use crate::kernel::Module;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::tree::{Node, Source, Tree};
use crate::{identity, libraries};

/// Mount points besides those of volumes (`/etc` is one as well), and where programs go.
const DIRECTORIES: [&str; 8] = ["/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr/bin", "/usr/sbin"];
/// The merged-usr layout, which Debian's programs expect.
const LINKS: [(&str, &str); 4] = [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/sbin", "usr/sbin")];
/// Where files that a package has in /etc go.
const ETC_TEMPLATE: &str = "/usr/share/corten/etc";

pub fn compose(profile: &Profile, plan: &Plan, contents: &mut Contents<'_>, modules: &[Module], release: &str) -> Result<Tree> {
    let mut tree = Tree::default();
    let volumes = Volume::ALL.map(Volume::mount_point);
    for directory in DIRECTORIES.into_iter().chain(volumes).chain(profile.directories.iter().map(String::as_str)) {
        tree.directory(directory)?;
    }
    for (path, target) in LINKS {
        tree.link(path, target)?;
    }
    let origins = packages(&mut tree, profile, contents)?;
    libraries::add(&mut tree, contents, &origins)?;
    for file in &plan.files {
        let node = Node::File { source: Source::Path(file.from.clone()), executable: true };
        tree.put(&file.path, node)?;
    }
    // Once more, now with the programs: they must not need anything.
    libraries::add(&mut tree, contents, &origins)?;
    for wanted in &plan.archives {
        let program = fs::read(&wanted.from).with_context(|| format!("reading {}", wanted.from.display()))?;
        let image = archive::of_program(&wanted.image, &wanted.program, program, &wanted.user, plan.facts.built_at);
        tree.file(&wanted.path, archive::pack(&image)?)?;
    }
    for link in &profile.links {
        tree.link(&link.path, &link.target)?;
    }
    identity::add(&mut tree, &plan.facts)?;
    for module in modules {
        tree.file(&format!("/usr/lib/modules/{release}/{}", module.path), module.bytes.clone())?;
    }
    Ok(tree)
}

/// Adds the listed files of packages and returns from which package each came.
fn packages(tree: &mut Tree, profile: &Profile, contents: &mut Contents<'_>) -> Result<BTreeMap<String, String>> {
    contents.prefetch(&likely(profile, contents))?;
    let mut origins = BTreeMap::new();
    for package in &profile.packages {
        for pattern in &package.files {
            for (path, entry) in contents.matching(&package.name, pattern)? {
                let place = match path.strip_prefix("/etc/") {
                    Some(rest) => format!("{ETC_TEMPLATE}/{rest}"),
                    None => path,
                };
                let node = match entry {
                    Entry::File { bytes, executable } => Node::File { source: Source::Bytes(bytes), executable },
                    Entry::Link(target) => Node::Link(target),
                };
                tree.put(&place, node)?;
                origins.insert(place, package.name.clone());
            }
        }
    }
    for bundle in &profile.bundles {
        let mut joined = Vec::new();
        for (path, entry) in contents.matching(&bundle.package, &bundle.files)? {
            if let Entry::File { bytes, .. } = entry {
                joined.extend_from_slice(&bytes);
                if !bytes.ends_with(b"\n") {
                    joined.push(b'\n');
                }
            } else {
                anyhow::bail!("package {}: {path} is a link, a bundle joins files", bundle.package);
            }
        }
        tree.file(&bundle.path, joined)?;
    }
    Ok(origins)
}

/// The listed packages and the libraries among what they depend on: fetched at once, although not all may be needed.
fn likely(profile: &Profile, contents: &Contents<'_>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = profile.bundles.iter().map(|bundle| bundle.package.clone()).collect();
    for package in &profile.packages {
        names.insert(package.name.clone());
        if let Some(locked) = contents.lock().find(&package.name) {
            names.extend(locked.depends.iter().filter(|name| name.starts_with("lib")).cloned());
        }
    }
    names
}
