//! Image profiles: what goes into an image, file by file. A profile includes parts that it shares with others; lists are joined, and what
//! can be said only once is an error when said twice. An unknown field is an error with its line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use machine::disk::Partition;
use serde::Deserialize;

/// One file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    /// Paths of parts, relative to this file.
    #[serde(default)]
    include: Vec<PathBuf>,
    name: Option<String>,
    architecture: Option<String>,
    partitions: Option<Vec<Partition>>,
    kernel: Option<Kernel>,
    boot_loader: Option<BootLoader>,
    #[serde(default)]
    modules: Modules,
    #[serde(default)]
    directories: Vec<String>,
    #[serde(default)]
    package: Vec<PackageFiles>,
    #[serde(default)]
    bundle: Vec<Bundle>,
    #[serde(default)]
    program: Vec<Program>,
    #[serde(default)]
    component: Vec<Component>,
    #[serde(default)]
    archive: Vec<Archive>,
    #[serde(default)]
    link: Vec<Link>,
}

/// A profile with all its parts.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Where it stands.
    pub path: PathBuf,
    pub name: String,
    /// As `uname -m` says it.
    pub architecture: String,
    pub partitions: Vec<Partition>,
    pub kernel: Kernel,
    pub boot_loader: BootLoader,
    pub modules: Modules,
    pub directories: Vec<String>,
    pub packages: Vec<PackageFiles>,
    pub bundles: Vec<Bundle>,
    pub programs: Vec<Program>,
    pub components: Vec<Component>,
    pub archives: Vec<Archive>,
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kernel {
    /// Arguments, behind the platform's; platform and root hash are added.
    pub command_line: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootLoader {
    pub package: String,
    /// systemd-boot.
    pub loader: String,
    /// The stub that becomes the head of the UKI.
    pub stub: String,
}

/// Kernel modules: names (`virtio_net`), patterns of names (`nft_*`), or directories (`net/netfilter/`). What a module depends on comes along.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Modules {
    /// Loaded by stage 1, in this order.
    pub initramfs: Vec<String>,
    pub root: Vec<String>,
}

/// Files of a Debian package: paths, or patterns in the last part of the path.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackageFiles {
    pub name: String,
    #[serde(default)]
    pub files: Vec<String>,
}

/// Files of a Debian package that are joined into one, in the order of their names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundle {
    pub package: String,
    pub files: String,
    pub path: String,
}

/// A program of this workspace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Program {
    pub name: String,
    pub path: String,
}

/// A file of `build/components/<name>/bin/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Component {
    pub name: String,
    pub file: String,
    pub path: String,
}

/// A container image that the root carries as `/usr/share/corten/images/<name>.tar`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Archive {
    pub name: String,
    /// Full name with tag; `{version}` stands for the component's version, or the image's for a program of this workspace.
    pub image: String,
    pub from: ArchiveProgram,
    /// Where the program lies in the image; it is the entry point.
    pub path: String,
    /// `uid:gid`
    pub user: String,
}

/// Where the program of an archive comes from: one of the two.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ArchiveProgram {
    /// A program of this workspace.
    Program(String),
    /// `<component>/<file>`
    Component(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    pub path: String,
    pub target: String,
}

impl Profile {
    pub fn load(path: &Path) -> Result<Profile> {
        let mut document = Document::default();
        let mut seen = BTreeSet::new();
        read(path, &mut document, &mut seen)?;
        let missing = |field: &str| format!("{}: no `{field}`, neither here nor in what it includes", path.display());
        let profile = Profile {
            path: path.to_owned(),
            name: document.name.with_context(|| missing("name"))?,
            architecture: document.architecture.with_context(|| missing("architecture"))?,
            partitions: document.partitions.with_context(|| missing("partitions"))?,
            kernel: document.kernel.with_context(|| missing("[kernel]"))?,
            boot_loader: document.boot_loader.with_context(|| missing("[boot-loader]"))?,
            modules: document.modules,
            directories: document.directories,
            packages: document.package,
            bundles: document.bundle,
            programs: document.program,
            components: document.component,
            archives: document.archive,
            links: document.link,
        };
        profile.validate().with_context(|| path.display().to_string())?;
        Ok(profile)
    }

    /// All profiles of a directory; parts lie below it and are none.
    pub fn load_all(directory: &Path) -> Result<Vec<Profile>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        ensure!(!paths.is_empty(), "{}: no profiles", directory.display());
        paths.iter().map(|path| Profile::load(path)).collect()
    }

    /// Debian packages that it names.
    pub fn asked(&self) -> BTreeSet<String> {
        let named = self.packages.iter().map(|package| &package.name).chain(self.bundles.iter().map(|bundle| &bundle.package));
        named.cloned().chain([self.boot_loader.package.clone()]).collect()
    }

    /// Components that something is taken from.
    pub fn component_names(&self) -> BTreeSet<&str> {
        let archived = self.archives.iter().filter_map(|archive| match &archive.from {
            ArchiveProgram::Component(place) => place.split('/').next(),
            ArchiveProgram::Program(_) => None,
        });
        self.components.iter().map(|component| component.name.as_str()).chain(archived).collect()
    }

    /// The golden list of what can be executed in its root.
    pub fn executables(&self) -> PathBuf {
        self.path.with_extension("executables")
    }

    fn validate(&self) -> Result<()> {
        ensure!(self.architecture == "x86_64", "architecture {:?}: only x86_64 is known", self.architecture);
        let name_is_plain = self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        ensure!(name_is_plain && !self.name.is_empty(), "name {:?}: expected lower-case letters, digits and dashes", self.name);
        let mut ordered = self.partitions.clone();
        ordered.sort();
        ordered.dedup();
        ensure!(ordered == self.partitions, "partitions: expected each once, in the order {:?}", Partition::ALL.map(Partition::label));
        for needed in Partition::ALL.iter().filter(|p| **p != Partition::Etcd) {
            ensure!(self.partitions.contains(needed), "partitions: {} is missing; only ETCD can be left out", needed.label());
        }
        let paths = self
            .programs
            .iter()
            .map(|p| &p.path)
            .chain(self.components.iter().map(|c| &c.path))
            .chain(self.links.iter().map(|l| &l.path))
            .chain(self.archives.iter().map(|a| &a.path))
            .chain(self.packages.iter().flat_map(|p| &p.files))
            .chain(self.bundles.iter().flat_map(|b| [&b.files, &b.path]))
            .chain(&self.directories)
            .chain([&self.boot_loader.loader, &self.boot_loader.stub]);
        for path in paths {
            let plain = path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
            ensure!(path.starts_with('/') && plain, "path {path:?}: expected an absolute path without `.`, `..` or empty parts");
        }
        for pattern in self.modules.initramfs.iter().chain(&self.modules.root) {
            glob::Pattern::new(pattern).with_context(|| format!("modules: pattern {pattern:?}"))?;
        }
        Ok(())
    }
}

fn read(path: &Path, into: &mut Document, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let document: Document = toml::from_str(&text).with_context(|| path.display().to_string())?;
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    for part in &document.include {
        read(&directory.join(part), into, seen).with_context(|| format!("included by {}", path.display()))?;
    }
    once(&mut into.name, document.name, "name", path)?;
    once(&mut into.architecture, document.architecture, "architecture", path)?;
    once(&mut into.partitions, document.partitions, "partitions", path)?;
    once(&mut into.kernel, document.kernel, "[kernel]", path)?;
    once(&mut into.boot_loader, document.boot_loader, "[boot-loader]", path)?;
    into.modules.initramfs.extend(document.modules.initramfs);
    into.modules.root.extend(document.modules.root);
    into.directories.extend(document.directories);
    into.package.extend(document.package);
    into.bundle.extend(document.bundle);
    into.program.extend(document.program);
    into.component.extend(document.component);
    into.archive.extend(document.archive);
    into.link.extend(document.link);
    Ok(())
}

fn once<T>(into: &mut Option<T>, value: Option<T>, field: &str, path: &Path) -> Result<()> {
    if into.is_some() && value.is_some() {
        bail!("{}: `{field}` was given before, by a part that is included as well", path.display());
    }
    if value.is_some() {
        *into = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    const BASE: &str = r#"
architecture = "x86_64"
kernel = { command-line = ["quiet"] }
boot-loader = { package = "systemd-boot-efi", loader = "/usr/lib/l.efi", stub = "/usr/lib/s.stub" }
modules.root = ["overlay"]
"#;

    fn profile(text: &str) -> Result<Profile> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("parts")).unwrap();
        fs::write(directory.path().join("parts/base.toml"), BASE).unwrap();
        let path = directory.path().join("test.toml");
        fs::write(&path, text).unwrap();
        Profile::load(&path)
    }

    const HEAD: &str = "name = \"test\"\ninclude = [\"parts/base.toml\"]\npartitions = [\"esp\", \"root-a\", \"root-a-verity\", \"root-b\", \"root-b-verity\", \"state\", \"ephemeral\"]\n";

    #[test]
    fn joins_parts() {
        let profile =
            profile(&format!("{HEAD}[modules]\nroot = [\"nft_*\"]\n[[package]]\nname = \"kmod\"\nfiles = [\"/usr/bin/kmod\"]\n")).unwrap();
        assert_eq!(profile.modules.root, ["overlay", "nft_*"]);
        assert_eq!(profile.asked(), BTreeSet::from(["kmod", "systemd-boot-efi"].map(str::to_owned)));
        assert_eq!(profile.partitions.len(), 7);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let error = format!("{:#}", profile(&format!("{HEAD}[[package]]\nname = \"kmod\"\nfile = [\"/usr/bin/kmod\"]\n")).unwrap_err());
        assert!(error.contains("test.toml") && error.contains("line 6") && error.contains("unknown field `file`"), "{error}");
    }

    #[test]
    fn refuses_what_makes_no_image() {
        for (text, expected) in [
            (format!("{HEAD}architecture = \"x86_64\"\n"), "given before"),
            (HEAD.replace("\"state\", ", ""), "STATE is missing"),
            (HEAD.replace("\"esp\", \"root-a\"", "\"root-a\", \"esp\""), "in the order"),
            (format!("{HEAD}directories = [\"/usr/../etc\"]\n"), "expected an absolute path"),
            ("name = \"test\"\n".to_owned(), "no `architecture`"),
        ] {
            let error = format!("{:#}", profile(&text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_profiles_and_platforms_of_this_repository_and_their_package_lock_go_together() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let profiles = Profile::load_all(&configs.join("profiles")).unwrap();
        let platforms = Platform::load_all(&configs.join("platforms")).unwrap();
        let lock = crate::lock::Lock::load(&configs.join("packages.lock")).unwrap();
        let kernels = platforms.into_iter().map(|platform| platform.kernel.package);
        let asked: BTreeSet<String> = profiles.iter().flat_map(Profile::asked).chain(kernels).collect();
        assert_eq!(lock.asked, asked.into_iter().collect::<Vec<_>>(), "`make lock` was not run after a profile or platform changed");
        for profile in &profiles {
            assert!(profile.executables().is_file(), "{}: no golden list of executables", profile.name);
            assert_eq!(profile.path.file_stem().unwrap().to_str(), Some(profile.name.as_str()));
        }
        let text = fs::read_to_string(configs.join("packages.lock")).unwrap();
        assert!(!text.contains("://"), "the lock names a mirror");
    }
}
