//! The table of upstream components, `components/components.toml`: what it says, checked. Building is left to `build.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(rename = "component")]
    pub components: Vec<Component>,
}

/// One upstream project: a folder with a go.mod next to the table, and what is built from it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Name of the component, of its folder under `components/` and of its output folder.
    pub name: String,
    /// The module whose version in go.mod is the component's version.
    pub module: String,
    /// Linker variables (`-X`): import path and name of the variable, and its value with placeholders.
    #[serde(default)]
    pub stamps: BTreeMap<String, String>,
    /// Files of the module, by path from its top: they are laid into `data/` as they are. Default: none.
    // An entry without it is written as ever, and so its key stays.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub data: BTreeSet<String>,
    /// One `go build` each.
    #[serde(rename = "build")]
    pub builds: Vec<Build>,
}

/// One `go build`: programs that share tags and linkage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Build tags. Default: none.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Name of the output file, and the Go package of its `main`.
    pub files: BTreeMap<String, String>,
    /// Set for programs with C in them: these are linked statically against the named libraries. Default: no C.
    #[serde(default)]
    pub cgo: Option<Cgo>,
}

/// What a program with C in it links.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cgo {
    /// pkg-config names. Their Debian package is `<name>-dev`.
    pub libraries: BTreeSet<String>,
}

/// Reads and checks the table.
pub fn load(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

/// Parses and checks the text of the table.
pub fn parse(text: &str) -> Result<Table> {
    let table: Table = toml::from_str(text)?;
    let mut names = BTreeSet::new();
    for component in &table.components {
        let name = &component.name;
        check_name("component", name)?;
        ensure!(names.insert(name), "component {name:?} is listed twice; expected one entry per name");
        ensure!(!component.builds.is_empty(), "component {name:?} builds nothing; expected at least one [[component.build]]");
        let mut files = BTreeSet::new();
        let mut packages = BTreeSet::new();
        for build in &component.builds {
            ensure!(!build.files.is_empty(), "component {name:?} has a build without files; expected `files = {{ name = \"package\" }}`");
            for (file, package) in &build.files {
                check_name("file", file)?;
                ensure!(files.insert(file), "component {name:?}: file {file:?} is made by two builds");
                ensure!(packages.insert(package), "component {name:?}: package {package:?} is built twice");
            }
        }
        for value in component.stamps.values() {
            stamp(value, "v0.0.0")?;
        }
        let mut laid = BTreeSet::new();
        for path in &component.data {
            let file = file_of_module(path).with_context(|| format!("component {name:?}"))?;
            ensure!(laid.insert(file), "component {name:?}: two of its data are called {file:?}");
        }
    }
    Ok(table)
}

/// A name that becomes a path component and a word of messages.
fn check_name(what: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain),
        "{what} name {name:?}: expected lower-case letters, digits and dashes, starting with a letter"
    );
    Ok(())
}

/// The name of a file whose path from the top of a module is this.
pub fn file_of_module(path: &str) -> Result<&str> {
    let stays = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let file = Path::new(path).file_name().and_then(|name| name.to_str()).filter(|_| stays);
    file.with_context(|| format!("data {path:?}: expected a path from the top of the module, such as deploy/roles.yaml"))
}

/// Fills a stamp's placeholders from the module version, such as `v1.37.1`.
pub fn stamp(template: &str, version: &str) -> Result<String> {
    let number = version.strip_prefix('v').with_context(|| format!("module version {version:?}: expected a leading v"))?;
    let mut parts = number.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let value = template.replace("{version}", version).replace("{number}", number).replace("{major}", major).replace("{minor}", minor);
    if value.contains(['{', '}', '\'', '"', ' ']) {
        bail!("stamp {template:?}: expected only the placeholders {{version}}, {{number}}, {{major}}, {{minor}}, and no quotes or spaces");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[component]]
        name = "etcd"
        module = "go.etcd.io/etcd/server/v3"
        stamps = { "a/b.Version" = "{number}" }
        [[component.build]]
        files = { etcd = "go.etcd.io/etcd/server/v3" }
    "#;

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("the table must be refused"))
    }

    #[test]
    fn the_table_of_this_repository_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../components");
        let table = load(&folder.join("components.toml")).expect("valid table");
        for component in table.components {
            assert!(folder.join(&component.name).join("go.mod").is_file(), "{} has no go.mod", component.name);
            assert!(folder.join(&component.name).join("go.sum").is_file(), "{} has no go.sum", component.name);
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        assert!(refusal(&GOOD.replace("module =", "modul =")).contains("unknown field `modul`"));
        assert!(refusal(&format!("{GOOD}\ntag = [\"x\"]")).contains("unknown field `tag`"));
        assert!(refusal(&format!("{GOOD}\ncgo = {{ librarys = [] }}")).contains("unknown field `librarys`"));
    }

    #[test]
    fn names_stay_within_their_folder_and_are_unique() {
        assert!(refusal(&GOOD.replace("\"etcd\"", "\"../etcd\"")).contains("\"../etcd\""));
        assert!(refusal(&GOOD.replace("{ etcd =", "{ \"a/b\" =")).contains("\"a/b\""));
        assert!(refusal(&format!("{GOOD}{GOOD}")).contains("listed twice"));
        assert!(refusal(&format!("{GOOD}\n[[component.build]]\nfiles = {{ etcd = \"x\" }}")).contains("two builds"));
    }

    #[test]
    fn data_are_files_within_the_module_with_names_of_their_own() {
        let with = |data: &str| GOOD.replace("[[component.build]]", &format!("data = {data}\n[[component.build]]"));
        let table = parse(&with(r#"["a/x.yaml", "y.yaml"]"#)).expect("valid table");
        assert_eq!(table.components[0].data.len(), 2);
        for outside in ["../x.yaml", "/etc/passwd", "", "a/../../x"] {
            assert!(refusal(&with(&format!("[{outside:?}]"))).contains("top of the module"), "{outside}");
        }
        assert!(refusal(&with(r#"["a/x.yaml", "b/x.yaml"]"#)).contains("called \"x.yaml\""));
    }

    #[test]
    fn a_stamp_is_filled_from_the_module_version() {
        assert_eq!(stamp("{version} {number}".replace(' ', "/").as_str(), "v1.37.1").expect("filled"), "v1.37.1/1.37.1");
        assert_eq!(stamp("{major}.{minor}", "v1.37.1").expect("filled"), "1.37");
        assert_eq!(stamp("", "v1.37.1").expect("filled"), "");
        assert!(refusal(&GOOD.replace("{number}", "{revision}")).contains("{revision}"));
    }
}
