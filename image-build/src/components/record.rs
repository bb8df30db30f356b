//! `component.json`: what a finished build consists of. Written next to its `bin` folder, read by the image and its SBOM.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::sbom::copyright::Copyright;
use crate::sbom::licence::Licence;

/// Name of the file.
pub const RECORD: &str = "component.json";

/// One finished component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    pub component: String,
    /// The upstream module, and its version as in go.mod.
    pub module: String,
    pub version: String,
    /// The content key of the inputs.
    pub key: String,
    pub arch: String,
    pub files: Vec<BuiltFile>,
    /// Go modules with code in any of the files, by `path@version`; the standard library is `std`.
    pub modules: BTreeMap<String, GoModule>,
    /// Debian packages of the build host whose libraries are linked in, by name.
    pub native: BTreeMap<String, NativePackage>,
}

/// One program in `bin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuiltFile {
    pub name: String,
    /// The Go package of its `main`.
    pub package: String,
    pub bytes: u64,
    pub sha256: String,
    /// Keys of `Record::modules`.
    pub modules: Vec<String>,
    /// Keys of `Record::native`.
    pub native: Vec<String>,
}

/// A Go module at a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GoModule {
    pub path: String,
    pub version: String,
    /// Go's checksum, `h1:` and base64, as in go.sum; none for the standard library.
    pub sum: Option<String>,
    pub licence: Licence,
}

/// A Debian package of the build host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NativePackage {
    pub version: String,
    pub copyright: Copyright,
}

impl Record {
    /// Reads a `component.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}; `make components` writes it", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("in {}; `make components` writes it anew", path.display()))
    }

    /// Writes it, as lines that can be compared.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("writing JSON")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}
