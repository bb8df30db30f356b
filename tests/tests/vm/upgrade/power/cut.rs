//! A power cut: what it interrupts, when it comes, and what becomes of writes that were not flushed. A seed says all three.

use std::time::Duration;

use testbed::nbd::{CutAt, NbdDisk};

use super::{installing, swapping};
use crate::seeds;

/// Longest time from power-on, or from the command, to the cut.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What the power cut interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// From the ISO image to the first boot from the disk: counted from the command.
    Install,
    /// Offer and Upload, and what follows them: counted from the command.
    Upload,
    /// Start until the reboot: counted from when all is written.
    Start,
    /// The boot loader's count and the new image's first boot, until it is kept: counted from power-on.
    Trial,
    /// The command, the boot of the old image and its trial.
    Rollback,
    /// A config while the new image is on trial.
    Apply,
}

#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub during: During,
    pub at: CutAt,
    pub seed: u64,
}

impl During {
    pub const ALL: [During; 6] = [During::Install, During::Upload, During::Start, During::Trial, During::Rollback, During::Apply];

    /// Flushes and writes that the disk was seen to take meanwhile.
    fn spans(self) -> (u64, u64) {
        match self {
            During::Install => (180, 300),
            During::Upload => (80, 320),
            During::Start => (30, 60),
            During::Trial => (100, 140),
            During::Rollback => (130, 200),
            During::Apply => (20, 60),
        }
    }
}

impl Cut {
    /// As many seeds in a row as there are kinds have one of each.
    pub fn of(seed: u64) -> Cut {
        let during = During::ALL[(seed % During::ALL.len() as u64) as usize];
        let (flushes, writes) = during.spans();
        Cut { during, at: seeds::cut_at(seed, flushes, writes), seed }
    }

    /// Interrupts a machine, lets it boot again, looks at it, and repeats what was interrupted.
    pub fn happens(self) -> anyhow::Result<()> {
        let end = if self.during == During::Install { installing::happens(self) } else { swapping::happens(self) }?;
        println!("    {end}");
        Ok(())
    }

    /// Takes the power, and says when it went.
    pub fn take_power(self, disk: &NbdDisk, answered: bool) -> anyhow::Result<()> {
        let fired = disk.wait_cut(Duration::ZERO);
        let report = disk.cut(self.seed)?;
        let (when, how) = (if answered { "after" } else { "before" }, if fired { "at the trigger" } else { "by hand" });
        println!("  {self:?}: {when} it was done, {how}; {report:?}");
        Ok(())
    }
}
