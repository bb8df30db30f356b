//! Updates that are no good: each ends on the slot that ran before, with the config that it ran with, and says why.

mod fell_back;
mod on_trial;
mod refused;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use testbed::nbd::NbdDisk;
use tests::images::Parts;
use tests::node::{Hardware, Node, Up};
use tests::place;
use update::SigningKey;

use super::standing::{Standing, reason_is};
use super::swap::{Updates, last_record, running};

pub use fell_back::kernel_panic;
pub use on_trial::gate_fails;
pub use refused::quick_refusals;

/// From the start of a bad image to the old one, tries and deadline included; several times what was measured.
pub const FALL_BACK: Duration = Duration::from_secs(15 * 60);

/// A machine that is on and has its config, and what makes updates for it.
pub struct Stage {
    pub node: Node,
    pub updates: Updates,
    /// The power stays on until the machine is dropped, which comes before the disk.
    _disk: NbdDisk,
}

impl Stage {
    /// A machine of the profile without Kubernetes.
    pub fn new(health: &str) -> anyhow::Result<Stage> {
        Stage::on(health, |_| {})
    }

    /// The same with other hardware than usual.
    pub fn on(health: &str, change: impl FnOnce(&mut Hardware)) -> anyhow::Result<Stage> {
        let mut node = Node::with("bare", &[health])?;
        change(&mut node.hardware);
        let disk = node.configured()?;
        Ok(Stage { node, updates: Updates::new()?, _disk: disk })
    }

    /// The running image's parts as another version, changed, in a file signed by the key that the machine trusts.
    pub fn of_parts(&self, version: &str, change: impl FnOnce(Parts, &Path) -> anyhow::Result<Parts>) -> anyhow::Result<PathBuf> {
        self.signed_by(version, &trusted_key()?, change)
    }

    pub fn signed_by(
        &self,
        version: &str,
        key: &SigningKey,
        change: impl FnOnce(Parts, &Path) -> anyhow::Result<Parts>,
    ) -> anyhow::Result<PathBuf> {
        // The rows of a table may have a version in common.
        let folder = tempfile::tempdir_in(self.updates.folder())?.keep();
        let parts = change(Parts::of(&place::image("bare"))?.version(version)?, &folder)?;
        let out = folder.join(format!("corten-{version}-bare.update"));
        parts.write(std::slice::from_ref(key), &out)?;
        Ok(out)
    }

    pub fn standing(&self) -> anyhow::Result<Standing> {
        Standing::of(&|arguments| self.node.json(&Up::Configured, arguments))
    }

    /// Waits until the machine answers its administrator from this slot.
    pub fn runs_in(&self, slot: &str, deadline: Duration) -> anyhow::Result<()> {
        let mut last = String::new();
        let look = || {
            let (version, now) = match running(&self.node) {
                Ok(found) => found,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(None);
                }
            };
            last = format!("{version} runs in slot {now}");
            Ok((now == slot).then_some(()))
        };
        self.node.machine()?.wait(&format!("the image in slot {slot}"), deadline, look).with_context(|| last)
    }

    /// After an image that was tried: all as before, the record says why, and it is not taken once more by itself.
    pub fn fell_back(&self, before: &Standing, file: &Path, check: &str, says: &str) -> anyhow::Result<()> {
        self.runs_in(&before.slot, FALL_BACK)?;
        let record = self.over()?;
        ensure!(record["phase"] == "failed", "the upgrade's record: {record}");
        reason_is(&record, check, says)?;
        let table = self.node.ask(&Up::Configured, &["get", "upgrades", "--timeout", "20s"])?;
        ensure!(table.contains("failed"), "machinectl get upgrades printed {table}");
        let now = self.standing()?;
        ensure!(now == *before, "{before:?} became {now:?}");
        self.refused(file, &[], "failed on this machine before")
    }

    /// The newest record, once it has ended: the old image's agent closes it after it is up.
    fn over(&self) -> anyhow::Result<Value> {
        let mut last = String::new();
        let look = || {
            let record = last_record(&self.node).map(|record| record["status"].clone());
            last = format!("{record:?}");
            Ok(record.ok().filter(|record| record["endedAt"].as_u64().is_some_and(|at| at > 0)))
        };
        self.node.machine()?.wait("the end of the upgrade's record", Duration::from_secs(120), look).with_context(|| last)
    }

    /// The update is not taken, and the answer says why.
    pub fn refused(&self, file: &Path, flags: &[&str], says: &str) -> anyhow::Result<()> {
        let path = file.to_str().context("a path in UTF-8")?;
        let arguments = [&["upgrade", path, "--yes", "--no-drain", "--wait", "8m"], flags].concat();
        match self.node.ask(&Up::Configured, &arguments) {
            Ok(printed) => anyhow::bail!("taken: {printed}"),
            Err(error) => {
                let text = format!("{error:#}");
                println!("    {}", text.rsplit("exit status: ").next().unwrap_or_default().trim());
                ensure!(text.contains(says), "{text}; expected {says:?}");
                Ok(())
            }
        }
    }
}

/// What this repository's images trust.
pub fn trusted_key() -> anyhow::Result<SigningKey> {
    let path = place::update_key();
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} (make image)", path.display()))?;
    Ok(SigningKey::from_pem(&text)?)
}

/// The rows that tell most in the least time, on one machine.
pub fn most_telling() -> anyhow::Result<()> {
    let stage = Stage::new(on_trial::HEALTH)?;
    quick_refusals(&stage)?;
    kernel_panic(&stage)?;
    gate_fails(&stage)
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_refusal_a_panic_and_a_gate_that_fails() -> anyhow::Result<()> {
    most_telling()
}
