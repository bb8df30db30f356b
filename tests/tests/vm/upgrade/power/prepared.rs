//! One machine in the states that cuts begin from. Each state is a disk that is made once in a test process, and copied for each cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::nbd::NbdDisk;
use tests::images::Build;
use tests::node::{Node, Up};
use tests::place;
use tests::until::until;

use super::super::swap::{HEALTH, Updates};

/// From power-on to an image that has proven good.
pub const BLESSING: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Prepared {
    pub node: Node,
    pub updates: Updates,
    pub update: PathBuf,
    /// 0.1.0 runs, with the first config.
    pub configured: NbdDisk,
    /// The same; the next boot tries 0.2.0.
    pub staged: NbdDisk,
    /// 0.2.0 is good, and runs with the second config.
    pub blessed: NbdDisk,
}

impl Prepared {
    pub fn new() -> anyhow::Result<Prepared> {
        let updates = Updates::new()?;
        let update = updates.build("bare", "0.2.0", |build: Build| build)?;
        let mut node = Node::with("bare", &[HEALTH])?;
        let disk = node.disk()?;
        let configured = counted("the first boot, and the first config", &mut node, &disk, |node| {
            node.boot(&disk)?;
            let up = node.up()?;
            node.apply(&up)
        })?;

        node.boot(&disk)?;
        node.up()?;
        let file = update.to_str().context("a path in UTF-8")?;
        let staged = counted("staging", &mut node, &disk, |node| {
            node.ask(&Up::Configured, &["upgrade", file, "--yes", "--no-drain", "--stage"]).map(drop)
        })?;

        let blessed = counted("the new image's first boot, and the second config", &mut node, &disk, |node| {
            node.boot(&disk)?;
            node.up()?;
            until("0.2.0 kept", BLESSING, || kept(node, "b"))?;
            node.ask(&Up::Configured, &["apply", "-f", &second_config(node)?]).map(drop)
        })?;
        Ok(Prepared { node, updates, update, configured, staged, blessed })
    }

    /// The folder of the image of this version.
    pub fn image(&self, version: &str) -> PathBuf {
        if version == "0.1.0" { place::image("bare") } else { self.updates.folder().join(version) }
    }
}

/// Does something, and takes the disk as it then is once it is at rest.
fn counted(what: &str, node: &mut Node, disk: &NbdDisk, work: impl FnOnce(&mut Node) -> anyhow::Result<()>) -> anyhow::Result<NbdDisk> {
    let (flushes, writes) = (disk.flushes(), disk.writes());
    work(node)?;
    println!("  {what}: {} flushes, {} writes", disk.flushes() - flushes, disk.writes() - writes);
    node.kill();
    Ok(disk.copy()?)
}

/// That the slot runs and is known to be good.
pub fn kept(node: &Node, slot: &str) -> anyhow::Result<()> {
    let status = node.resource("slots", slot)?["status"].clone();
    ensure!(status["running"] == true && status["blessed"] == true, "slot {slot}: {status}");
    Ok(())
}

/// The node's config with another deadline: see [`generation`].
pub fn second_config(node: &Node) -> anyhow::Result<String> {
    let path = node.file("second.yaml");
    let first = std::fs::read_to_string(node.config())?;
    ensure!(first.contains(FIRST), "no {FIRST:?} in {first}");
    std::fs::write(&path, first.replace(FIRST, SECOND))?;
    path_text(&path)
}

/// Which of the two configs is in force: 1 or 2.
pub fn generation(node: &Node) -> anyhow::Result<u64> {
    let shown = node.ask(&Up::Configured, &["config", "show", "--timeout", "20s"])?;
    match (shown.contains(FIRST), shown.contains(SECOND)) {
        (true, false) => Ok(1),
        (false, true) => Ok(2),
        _ => anyhow::bail!("neither of the two configs: {shown}"),
    }
}

const FIRST: &str = "deadline: 3m";
const SECOND: &str = "deadline: 4m";

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).context("a path in UTF-8")
}
