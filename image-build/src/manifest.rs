//! `manifest.json`: what an image is made of and what it came to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use machine::protocol::ImageFacts;
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::lock::Package;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    pub image: ImageFacts,
    /// Where its machines run: a file of configs/platforms.
    pub platform: String,
    pub kernel_release: String,
    pub root_hash: String,
    /// As sealed in the UKI.
    pub command_line: String,
    pub files: Vec<OutputFile>,
    /// Debian packages that something was taken from.
    pub packages: Vec<UsedPackage>,
    /// Programs of ours and of components, by their place in the root.
    pub programs: Vec<UsedProgram>,
    /// What differs from the package lock, and why.
    pub notices: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputFile {
    pub name: String,
    pub size_bytes: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsedPackage {
    pub name: String,
    pub version: String,
    pub source: String,
    pub sha256: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsedProgram {
    pub path: String,
    pub sha256: String,
}

impl From<&Package> for UsedPackage {
    fn from(package: &Package) -> UsedPackage {
        let Package { name, version, source, sha256, .. } = package.clone();
        UsedPackage { name, version, source, sha256 }
    }
}

impl OutputFile {
    pub fn of(folder: &Path, name: &str) -> Result<OutputFile> {
        let path = folder.join(name);
        let size_bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
        Ok(OutputFile { name: name.to_owned(), size_bytes, sha256: digest::file(&path)? })
    }
}

impl Manifest {
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}
