//! `configs/packages.lock`: which Debian packages the profiles ask for, and exactly which files that came to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt::stanza::Stanza;
use crate::apt::{self, Apt};

const FORMAT: u32 = 1;
const HEADER: &str = "# Debian packages that images are made of. Written by `make lock`; not to be edited.\n\n";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// Of this file.
    pub format: u32,
    /// Debian's code name.
    pub release: String,
    pub architecture: String,
    /// Date of the newest signed Release file it was resolved from, in seconds since the epoch: the default of SOURCE_DATE_EPOCH.
    pub date: u64,
    /// Names that the profiles ask for.
    pub asked: Vec<String>,
    /// What they came to, with everything that they depend on, by name.
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Source package and its version, as licences and advisories name them.
    pub source: String,
    /// Path below the mirror.
    pub file: String,
    pub size: u64,
    pub sha256: String,
    /// Packages of this lock that it depends on.
    pub depends: Vec<String>,
}

impl Lock {
    pub fn load(path: &Path) -> Result<Lock> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}; `make lock` writes it", path.display()))?;
        let lock: Lock = toml::from_str(&text).with_context(|| format!("{}; `make lock` writes it anew", path.display()))?;
        if lock.format != FORMAT {
            bail!("{}: format {}, this program reads {FORMAT}; `make lock` writes it anew", path.display(), lock.format);
        }
        Ok(lock)
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let text = format!("{HEADER}{}", toml::to_string(self)?);
        let temporary = path.with_extension("lock.partial");
        fs::write(&temporary, text).with_context(|| format!("writing {}", temporary.display()))?;
        fs::rename(&temporary, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Resolves the names against the mirror's signed lists, which are fetched first.
    pub fn resolve(apt: &Apt, asked: &BTreeSet<String>) -> Result<Lock> {
        apt.update()?;
        let asked: Vec<String> = asked.iter().cloned().collect();
        let candidates = apt.resolve(&asked)?;
        let mut records = BTreeMap::new();
        for record in apt.records(&candidates)? {
            // One version can stand in several suites; apt shows it once for each.
            let name = record.get("Package").context("a package without a name in Debian's index")?.to_owned();
            records.entry(name).or_insert(record);
        }
        let names: BTreeSet<&str> = records.keys().map(String::as_str).collect();
        let mut packages = Vec::new();
        for candidate in &candidates {
            let record = records.get(&candidate.name).with_context(|| format!("Debian's index shows no {}", candidate.name))?;
            let package = package(record, &names).with_context(|| format!("Debian's index, package {}", candidate.name))?;
            if package.version != candidate.version {
                bail!("Debian's index shows {} {}, apt chose {}", package.name, package.version, candidate.version);
            }
            packages.push(package);
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Lock {
            format: FORMAT,
            release: apt::RELEASE.to_owned(),
            architecture: apt::ARCHITECTURE.to_owned(),
            date: apt.release_date()?,
            asked,
            packages,
        })
    }

    pub fn find(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    pub fn require(&self, name: &str) -> Result<&Package> {
        self.find(name).with_context(|| format!("package {name} is not in configs/packages.lock; `make lock` renews it"))
    }

    /// The package that a meta package stands for: the one whose name begins so among what it depends on.
    pub fn behind(&self, name: &str, prefix: &str) -> Result<&Package> {
        let meta = self.require(name)?;
        let mut found = meta.depends.iter().filter(|depends| depends.starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(real), None) => self.require(real),
            _ => bail!("package {name} depends on {:?}: expected exactly one that begins with {prefix}", meta.depends),
        }
    }

    /// The package itself, then what it depends on, nearest first.
    pub fn with_dependencies(&self, name: &str) -> Vec<&Package> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([name]);
        let mut found = Vec::new();
        while let Some(name) = queue.pop_front() {
            if seen.insert(name)
                && let Some(package) = self.find(name)
            {
                found.push(package);
                queue.extend(package.depends.iter().map(String::as_str));
            }
        }
        found
    }

    /// How this lock differs from an older one, a line a package.
    pub fn differences(&self, old: &Lock) -> Vec<String> {
        let mut lines = Vec::new();
        for package in &self.packages {
            match old.find(&package.name) {
                None => lines.push(format!("{} {} is new", package.name, package.version)),
                Some(before) if before.version != package.version => {
                    lines.push(format!("{} {} instead of {}", package.name, package.version, before.version));
                }
                Some(before) if before.sha256 != package.sha256 => {
                    lines.push(format!("{} {}: other content", package.name, package.version))
                }
                Some(_) => {}
            }
        }
        let gone = old.packages.iter().filter(|package| self.find(&package.name).is_none());
        lines.extend(gone.map(|package| format!("{} {} is gone", package.name, package.version)));
        lines
    }
}

fn package(record: &Stanza, names: &BTreeSet<&str>) -> Result<Package> {
    let field = |key: &str| record.get(key).map(str::to_owned).with_context(|| format!("no field {key}"));
    let (name, version) = (field("Package")?, field("Version")?);
    let source = match record.get("Source") {
        None => format!("{name} ({version})"),
        Some(source) if source.contains('(') => source.to_owned(),
        Some(source) => format!("{source} ({version})"),
    };
    let mut depends = BTreeSet::new();
    for key in ["Pre-Depends", "Depends"] {
        for alternative in record.get(key).unwrap_or_default().split([',', '|']) {
            let wanted = alternative.trim().split([' ', ':', '(']).next().unwrap_or_default();
            if names.contains(wanted) {
                depends.insert(wanted.to_owned());
            }
        }
    }
    Ok(Package {
        architecture: field("Architecture")?,
        source,
        file: field("Filename")?,
        size: field("Size")?.parse().context("field Size")?,
        sha256: field("SHA256")?,
        depends: depends.into_iter().collect(),
        name,
        version,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::apt::stanza;

    pub fn locked(name: &str, version: &str, depends: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: format!("{name} ({version})"),
            file: format!("pool/{name}.deb"),
            size: 1,
            sha256: "00".repeat(32),
            depends: depends.iter().map(|d| (*d).to_owned()).collect(),
        }
    }

    pub fn lock(packages: Vec<Package>) -> Lock {
        Lock { format: FORMAT, release: "trixie".into(), architecture: "amd64".into(), date: 1, asked: vec![], packages }
    }

    #[test]
    fn reads_a_record_of_the_index() {
        let record = &stanza::parse(
            "Package: e2fsprogs\nSource: e2fsprogs-src\nVersion: 1.47-3\nArchitecture: amd64\nPre-Depends: libc6 (>= 2.38), libblkid1:amd64\n\
             Depends: absent | logsave,\n other\nFilename: pool/e.deb\nSize: 12\nSHA256: ab\n",
        )[0];
        let package = package(record, &BTreeSet::from(["libc6", "libblkid1", "logsave"])).unwrap();
        assert_eq!(package.depends, ["libblkid1", "libc6", "logsave"]);
        assert_eq!(package.source, "e2fsprogs-src (1.47-3)");
        assert_eq!((package.size, package.sha256.as_str()), (12, "ab"));
    }

    #[test]
    fn walks_dependencies_nearest_first_and_ends_at_circles() {
        let lock = lock(vec![locked("a", "1", &["b", "c"]), locked("b", "1", &["d"]), locked("c", "1", &["a"]), locked("d", "1", &["b"])]);
        let names: Vec<&str> = lock.with_dependencies("a").iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    #[test]
    fn finds_the_package_behind_a_meta_package() {
        let lock = lock(vec![
            locked("linux-image-cloud-amd64", "1", &["linux-image-6.12.1-cloud-amd64"]),
            locked("linux-image-6.12.1-cloud-amd64", "1", &[]),
        ]);
        assert_eq!(lock.behind("linux-image-cloud-amd64", "linux-image-").unwrap().name, "linux-image-6.12.1-cloud-amd64");
        assert!(lock.behind("linux-image-6.12.1-cloud-amd64", "linux-image-").is_err());
    }

    #[test]
    fn names_every_difference() {
        let old = lock(vec![locked("a", "1", &[]), locked("b", "1", &[])]);
        let new = lock(vec![locked("a", "2", &[]), locked("c", "1", &[])]);
        assert_eq!(new.differences(&old), ["a 2 instead of 1", "c 1 is new", "b 1 is gone"]);
    }

    #[test]
    fn survives_saving_and_loading_and_refuses_unknown_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("packages.lock");
        let written = lock(vec![locked("a", "1", &["b"])]);
        written.save(&path).unwrap();
        assert_eq!(Lock::load(&path).unwrap(), written);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "surprise = 1\n").unwrap();
        let error = format!("{:#}", Lock::load(&path).unwrap_err());
        assert!(error.contains("surprise") && error.contains("line"), "{error}");
    }
}
