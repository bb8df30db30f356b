//! An image that is good: taken, kept, and left again on request.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::images::Build;
use tests::node::{Node, Up};
use tests::place;

use super::standing;

/// What a test's machine asks of a new image: as usual, only quicker.
pub const HEALTH: &str = "{ machine: { health: { hold: 5s, deadline: 3m } } }";

/// Update files made for one test.
#[derive(Debug)]
pub struct Updates {
    folder: tempfile::TempDir,
}

impl Updates {
    pub fn new() -> anyhow::Result<Updates> {
        Ok(Updates { folder: tempfile::tempdir()? })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An update to another version of the profile; `change` may put other programs into it.
    pub fn build(&self, profile: &str, version: &str, change: impl FnOnce(Build) -> Build) -> anyhow::Result<PathBuf> {
        let out = self.folder.path().join(version);
        let build = Build::new(profile, version).argument("--update-key").argument(place::update_key());
        change(build.argument("--update-level").argument("1")).write(&out)?;
        Ok(out.join(format!("corten-{version}-{profile}.update")))
    }
}

/// Upgrades, waits until the image has proven good, and gives what machinectl printed.
pub fn upgrade(node: &Node, file: &Path) -> anyhow::Result<String> {
    let file = file.to_str().context("a path in UTF-8")?;
    node.ask(&Up::Configured, &["upgrade", file, "--yes", "--no-drain", "--wait", "12m"])
}

/// Version and slot that run.
pub fn running(node: &Node) -> anyhow::Result<(String, String)> {
    standing::running(&|arguments| node.json(&Up::Configured, arguments))
}

/// The newest upgrade's record.
pub fn last_record(node: &Node) -> anyhow::Result<Value> {
    standing::last_record(&|arguments| node.json(&Up::Configured, arguments))
}

/// A -> B -> A: by an update file, and back by request.
pub fn there_and_back() -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let file = updates.build("bare", "0.2.0", |build| build)?;
    let mut node = Node::with("bare", &[HEALTH])?;
    let _disk = node.configured()?;
    let first = running(&node)?;
    println!("  {}", upgrade(&node, &file)?.trim());
    let second = running(&node)?;
    ensure!(second == ("0.2.0".to_owned(), "b".to_owned()), "after the upgrade {second:?} runs");
    println!("  {}", node.ask(&Up::Configured, &["get", "slots"])?);
    println!("  {}", node.ask(&Up::Configured, &["get", "upgrades"])?);
    node.ask(&Up::Configured, &["rollback", "--yes", "--no-drain", "--wait", "8m"])?;
    ensure!(running(&node)? == first, "after the rollback {:?} runs, before all {first:?} did", running(&node)?);
    println!("  {}", node.ask(&Up::Configured, &["get", "upgrades"])?);
    println!("  {}", node.ask(&Up::Configured, &["get", "boots"])?);
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_machine_takes_an_image_and_goes_back_on_request() -> anyhow::Result<()> {
    there_and_back()
}
