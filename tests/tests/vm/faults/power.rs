//! Power cuts. The disk loses what the machine has not flushed: some of it, all of it, or parts of a write, as a seed says.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testbed::nbd::{CutAt, NbdDisk};
use tests::node::{Node, Up};
use tests::program::Running;
use tests::until::BETWEEN_LOOKS;

use crate::seeds;

/// Longest time from power-on, or from the command, to the cut.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the power cut interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    FirstBoot,
    Apply,
    Bootstrap,
}

/// A power cut: when, and what decides the fate of writes that were not flushed.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub during: During,
    pub at: CutAt,
    pub seed: u64,
}

impl Cut {
    /// A cut that the seed chooses, at a flush or at a write among those that the phase was seen to make.
    fn of(during: During, seed: u64) -> Cut {
        let (flushes, writes) = match during {
            During::FirstBoot => (40, 300),
            During::Apply => (20, 60),
            During::Bootstrap => (400, 1500),
        };
        Cut { during, at: seeds::cut_at(seed, flushes, writes), seed }
    }

    /// Interrupts a machine, lets it boot again, and repeats what was interrupted. What had been answered before the cut must have lasted.
    pub fn happens(self) -> anyhow::Result<()> {
        let mut node = Node::new(if self.during == During::Bootstrap { "controlplane" } else { "bare" })?;
        let disk = node.disk()?;
        let answered = self.interrupt(&mut node, &disk)?;
        let report = disk.cut(self.seed)?;
        println!("  {self:?}: {}; {report:?}", if answered { "after it was done" } else { "before it was done" });

        node.boot(&disk)?;
        let up = node.up()?;
        let kept = up == Up::Configured;
        ensure!(!kept || self.during != During::FirstBoot, "a machine that got no config has one");
        ensure!(kept || self.during == During::FirstBoot || (self.during == During::Apply && !answered), "the config is lost");
        node.apply(&up).context("repeating apply")?;
        if self.during == During::Bootstrap {
            node.bootstrap().context("repeating bootstrap")?;
        }
        Ok(())
    }

    /// Whether the command had been answered when the power went.
    fn interrupt(self, node: &mut Node, disk: &NbdDisk) -> anyhow::Result<bool> {
        let began = Instant::now();
        if self.during == During::FirstBoot {
            disk.cut_at(self.at);
            node.boot(disk)?;
            while !disk.wait_cut(BETWEEN_LOOKS) && node.fingerprint()?.is_none() && began.elapsed() < PATIENCE {}
            node.kill();
            return Ok(false);
        }
        node.boot(disk)?;
        let up = node.up()?;
        let config = node.config();
        let (caller, command) = if self.during == During::Bootstrap {
            node.apply(&up)?;
            (&Up::Configured, vec!["bootstrap"])
        } else {
            (&up, vec!["apply", "-f", &config])
        };
        disk.cut_at(self.at);
        let mut work = Running::start(&mut node.command(caller, &command)?)?;
        // What bootstrap sets off goes on long after its answer.
        while !disk.wait_cut(BETWEEN_LOOKS) && began.elapsed() < PATIENCE && !(work.is_over()? && self.during == During::Apply) {}
        let answered = work.is_over()?;
        node.kill();
        Ok(answered && work.printed().is_ok())
    }
}

fn cuts(during: During, usual: u64) -> anyhow::Result<()> {
    seeds::each(seeds::asked(usual)?, |seed| Cut::of(during, seed), Cut::happens)
}

#[test]
#[ignore = "boots VMs: make vm-test T=faults"]
fn power_cuts_during_first_boot() -> anyhow::Result<()> {
    cuts(During::FirstBoot, 6)
}

#[test]
#[ignore = "boots VMs: make vm-test T=faults"]
fn power_cuts_during_apply() -> anyhow::Result<()> {
    cuts(During::Apply, 6)
}

#[test]
#[ignore = "boots VMs: make vm-test T=faults"]
fn power_cuts_during_bootstrap() -> anyhow::Result<()> {
    cuts(During::Bootstrap, 3)
}
