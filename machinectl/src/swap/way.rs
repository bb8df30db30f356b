//! The flags that upgrade and rollback share, and those of a rolling reboot.

use std::num::NonZeroUsize;
use std::time::Duration;

use api::v1::RebootMode;
use clap::{Args, ValueEnum};

/// How images are swapped.
#[derive(Debug, Clone, Args)]
pub struct Way {
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Leave it to each machine's next reboot, whenever that comes
    #[arg(long, conflicts_with_all = ["drain", "wait", "no_wait", "reboot_mode"])]
    pub stage: bool,
    /// How machines go down: graceful ends pods first, within a deadline; fast does not wait for them
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    reboot_mode: Mode,
    /// How long a machine may take from its reboot until its image is proven good, such as 30m
    #[arg(long, value_name = "DURATION", default_value = "30m")]
    wait: machine::config::Duration,
    /// End as soon as the machine reboots. Its pods are not evicted then, since nobody would let others come back
    #[arg(long, conflicts_with_all = ["wait", "drain"])]
    no_wait: bool,
    /// How long evicting the pods of a machine's Kubernetes node may take, such as 5m
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    drain: machine::config::Duration,
    /// Do not evict pods before a machine reboots
    #[arg(long, conflicts_with = "drain")]
    no_drain: bool,
    /// Go on where etcd has no quorum while a control plane is away: the Kubernetes API is away as well then
    #[arg(long)]
    pub without_quorum: bool,
    #[command(flatten)]
    pub pace: Pace,
}

/// How many machines are away at a time.
#[derive(Debug, Clone, Copy, Args)]
pub struct Pace {
    /// How many workers may be away at a time; control planes go one by one in any case
    #[arg(long, value_name = "N", default_value = "1")]
    pub max_unavailable: NonZeroUsize,
}

/// The flags of a reboot of several machines, one after the other.
#[derive(Debug, Clone, Copy, Args)]
pub struct Rolling {
    /// One machine after the other: control planes first, one at a time and only while etcd keeps its quorum, each drained first and
    /// waited for; the first that does not come back healthy ends it
    #[arg(long)]
    pub rolling: bool,
    /// How long evicting the pods of a machine's Kubernetes node may take, such as 5m
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "rolling")]
    drain: machine::config::Duration,
    /// Do not evict pods before a machine reboots
    #[arg(long, conflicts_with = "drain", requires = "rolling")]
    no_drain: bool,
    #[command(flatten)]
    pace: Pace,
}

impl Rolling {
    pub fn way(self, dry_run: bool, yes: bool, force: bool, wait: Duration) -> Way {
        let Rolling { drain, no_drain, pace, .. } = self;
        let wait = machine::config::Duration(wait);
        Way { dry_run, yes, stage: false, reboot_mode: Mode::Graceful, wait, no_wait: false, drain, no_drain, without_quorum: force, pace }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Mode {
    #[default]
    Graceful,
    Fast,
}

/// Whether the machine's fate is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    AtMost(Duration),
}

impl Way {
    pub fn wait(&self) -> Wait {
        if self.no_wait || self.stage { Wait::No } else { Wait::AtMost(self.wait.0) }
    }

    /// How long draining may take; none: nothing is drained.
    pub fn drain(&self) -> Option<Duration> {
        (!self.no_drain && self.wait() != Wait::No).then_some(self.drain.0)
    }

    pub fn reboot_mode(&self) -> RebootMode {
        match self.reboot_mode {
            Mode::Graceful => RebootMode::Graceful,
            Mode::Fast => RebootMode::Fast,
        }
    }
}
