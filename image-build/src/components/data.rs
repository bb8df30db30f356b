//! Files of a component's module that are no programs: they go along as they are. `go build` has fetched the module and checked it against go.sum.

use std::path::Path;

use anyhow::{Context, Result};

use super::inspect::cached;
use super::table::{Component, file_of_module};

/// Where they lie, beside `bin`.
pub const FOLDER: &str = "data";

/// Lays the component's data into a new `folder`, from its module at `version` in Go's module cache.
pub fn lay(component: &Component, version: &str, cache: &Path, folder: &Path) -> Result<()> {
    if component.data.is_empty() {
        return Ok(());
    }
    let module = cached(cache, &component.module, version);
    std::fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    for path in &component.data {
        let (from, to) = (module.join(path), folder.join(file_of_module(path)?));
        // Read and written, not copied: files of the module cache cannot be written to, and these are ours.
        let content = std::fs::read(&from).with_context(|| format!("component {}: reading {}", component.name, from.display()))?;
        std::fs::write(&to, content).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::components::table;

    #[test]
    fn data_are_laid_under_their_own_names_and_a_missing_one_is_named() {
        let (cache, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let module = cache.path().join("a/x@v1.2.3/deploy");
        std::fs::create_dir_all(&module).expect("a module");
        std::fs::write(module.join("roles.yaml"), "roles").expect("a file");
        let component = |data: &str| {
            let head = format!("[[component]]\nname = \"x\"\nmodule = \"a/x\"\ndata = [{data:?}]");
            let table = table::parse(&format!("{head}\n[[component.build]]\nfiles = {{ x = \"a/x\" }}"));
            table.expect("valid table").components.remove(0)
        };
        let folder = out.path().join(FOLDER);
        lay(&component("deploy/roles.yaml"), "v1.2.3", cache.path(), &folder).expect("laid");
        assert_eq!(std::fs::read_to_string(folder.join("roles.yaml")).expect("there"), "roles");
        let error = lay(&component("deploy/other.yaml"), "v1.2.3", cache.path(), &out.path().join("2")).expect_err("it is not there");
        assert!(format!("{error:#}").contains("deploy/other.yaml"), "{error:#}");
    }
}
