//! Versions of components, as their go.mod pins them, and whether what was built is of that version.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::components::record::{RECORD, Record};
use crate::components::{module, table};

/// Where components' sources and results lie.
#[derive(Debug, Clone, Copy)]
pub struct Components<'a> {
    pub sources: &'a Path,
    pub built: &'a Path,
}

impl Components<'_> {
    pub fn file(&self, name: &str, file: &str) -> PathBuf {
        self.built.join(name).join("bin").join(file)
    }

    /// `v1.37.1`
    pub fn pinned(&self, name: &str) -> Result<String> {
        let table = table::load(&self.sources.join("components.toml"))?;
        let component = table.components.iter().find(|component| component.name == name);
        let component =
            component.with_context(|| format!("component {name:?} is not in {}", self.sources.join("components.toml").display()))?;
        let path = self.sources.join(name).join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(module::parse(&text, &component.module).with_context(|| format!("in {}", path.display()))?.version)
    }

    pub fn check_built(&self, name: &str) -> Result<()> {
        let pinned = self.pinned(name)?;
        let built = Record::read(&self.built.join(name).join(RECORD))?.version;
        ensure!(built == pinned, "component {name} is built in version {built}, its go.mod has {pinned}; `make components` builds it anew");
        Ok(())
    }
}
