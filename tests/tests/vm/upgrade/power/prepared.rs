//! One machine in the states that cuts begin from. Each state is a disk that is made once in a test process, when it is first asked for, and
//! copied for each cut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use machine::disk::Slot;
use testbed::nbd::NbdDisk;
use tests::images::Build;
use tests::node::{Node, Up};
use tests::place;
use tests::until::until;

use super::super::swap::{HEALTH, Updates};

/// From power-on to an image that has proven good.
pub const BLESSING: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A disk without anything.
    Empty,
    /// 0.1.0 runs, with the first config.
    Configured,
    /// The same; the next boot tries 0.2.0.
    Staged,
    /// The same, and the second config came after 0.2.0 was staged, before the reboot.
    Reconfigured,
    /// 0.2.0 was booted once and is on trial, where the second config came, and stays so for as long as a test needs.
    OnTrial,
    /// 0.2.0 is good, and runs with the second config.
    Blessed,
}

#[derive(Debug)]
pub struct Prepared {
    pub node: Node,
    /// Folder of each version's image, and its update file.
    images: BTreeMap<&'static str, (PathBuf, PathBuf)>,
    states: BTreeMap<State, NbdDisk>,
    _updates: Updates,
}

impl Prepared {
    /// With the images that this repository builds.
    pub fn new() -> anyhow::Result<Prepared> {
        let updates = Updates::new()?;
        let old = place::image("bare");
        let images = [("0.1.0", (old.clone(), old.join("corten-0.1.0-bare.update"))), ("0.2.0", build(&updates, "0.2.0", |build| build)?)];
        Ok(Prepared { node: Node::with("bare", &[HEALTH])?, images: images.into(), states: BTreeMap::new(), _updates: updates })
    }

    /// With images that have this program as their agent; the machine's config has these patches as well.
    pub fn with_agent(agent: &[u8], patches: &[&str]) -> anyhow::Result<Prepared> {
        let updates = Updates::new()?;
        let with_agent = |version| build(&updates, version, |build| build.replace("nodeagent", agent.to_vec()));
        let images = [("0.1.0", with_agent("0.1.0")?), ("0.2.0", with_agent("0.2.0")?)];
        let node = Node::with("bare", &[&[HEALTH], patches].concat())?.from_image(&images[0].1.0);
        Ok(Prepared { node, images: images.into(), states: BTreeMap::new(), _updates: updates })
    }

    /// The folder of the image of this version.
    pub fn image(&self, version: &str) -> PathBuf {
        self.images[version].0.clone()
    }

    /// The path of the update file to this version.
    pub fn update(&self, version: &str) -> anyhow::Result<String> {
        self.images[version].1.to_str().map(str::to_owned).context("a path in UTF-8")
    }

    /// What slots may hold.
    pub fn slots(&self) -> [(Slot, PathBuf); 2] {
        [(Slot::A, self.image("0.1.0")), (Slot::B, self.image("0.2.0"))]
    }

    /// A disk in this state, for a cut. The machine is off then.
    pub fn disk(&mut self, state: State) -> anyhow::Result<NbdDisk> {
        if !self.states.contains_key(&state) {
            let made = self.make(state);
            self.node.kill();
            self.states.insert(state, made.with_context(|| format!("{state:?}, which cuts begin from"))?);
        }
        self.node.kill();
        Ok(self.states[&state].copy()?)
    }

    fn make(&mut self, state: State) -> anyhow::Result<NbdDisk> {
        let disk = match state {
            State::Empty => return Ok(NbdDisk::empty(crate::media::install::DISK_BYTES)?),
            State::Configured => self.node.disk()?,
            State::Staged | State::Reconfigured | State::OnTrial => self.disk(State::Configured)?,
            State::Blessed => self.disk(State::Staged)?,
        };
        let update = self.update("0.2.0")?;
        let node = &mut self.node;
        node.boot(&disk)?;
        let up = node.up()?;
        let (flushes, writes) = (disk.flushes(), disk.writes());
        let second = second_config(node, BRIEF)?;
        let stage = ["upgrade", &update, "--yes", "--no-drain", "--stage"];
        match state {
            State::Empty => {}
            State::Configured => node.apply(&up)?,
            State::Staged => node.ask(&up, &stage).map(drop)?,
            State::Reconfigured => {
                node.ask(&up, &stage)?;
                node.ask(&up, &["apply", "-f", &second])?;
            }
            State::OnTrial => {
                node.ask(&up, &["apply", "-f", &first_config(node, LONG)?])?;
                node.ask(&up, &stage)?;
                node.kill();
                node.boot(&disk)?;
                let up = node.up()?;
                node.ask(&up, &["apply", "-f", &second_config(node, LONG)?])?;
            }
            State::Blessed => {
                until("0.2.0 kept", BLESSING, || kept(node, "b"))?;
                node.ask(&up, &["apply", "-f", &second]).map(drop)?;
            }
        }
        println!("  {state:?}: {} flushes, {} writes since the machine API answered", disk.flushes() - flushes, disk.writes() - writes);
        node.kill();
        Ok(disk.copy()?)
    }
}

fn build(updates: &Updates, version: &str, change: impl FnOnce(Build) -> Build) -> anyhow::Result<(PathBuf, PathBuf)> {
    let update = updates.build("bare", version, change)?;
    Ok((updates.folder().join(version), update))
}

/// That the slot runs and is known to be good.
pub fn kept(node: &Node, slot: &str) -> anyhow::Result<()> {
    let status = node.resource("slots", slot)?["status"].clone();
    ensure!(status["running"] == true && status["blessed"] == true, "slot {slot}: {status}");
    Ok(())
}

/// The node's config with this hold: the first one, see [`generation`].
pub fn first_config(node: &Node, hold: &str) -> anyhow::Result<String> {
    config(node, "first.yaml", FIRST, hold)
}

/// The node's config with another deadline: the second one, see [`generation`].
pub fn second_config(node: &Node, hold: &str) -> anyhow::Result<String> {
    config(node, "second.yaml", SECOND, hold)
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
/// How long an image has to be well until it is kept: as the node's config has it, and longer than a test looks.
pub const BRIEF: &str = "hold: 5s";
const LONG: &str = "hold: 90s";

fn config(node: &Node, name: &str, deadline: &str, hold: &str) -> anyhow::Result<String> {
    let path = node.file(name);
    let own = std::fs::read_to_string(node.config())?;
    ensure!(own.contains(FIRST) && own.contains(BRIEF), "no {FIRST:?} and {BRIEF:?} in {own}");
    std::fs::write(&path, own.replace(FIRST, deadline).replace(BRIEF, hold))?;
    path.to_str().map(str::to_owned).context("a path in UTF-8")
}
