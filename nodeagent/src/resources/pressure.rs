//! Pressure: whether tasks of this machine stand still for want of a resource, and what control planes do about it.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// Of one resource, named by it: cpu, memory, io.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pressure {
    pub state: PressureState,
    /// When the state began; RFC 3339, UTC.
    pub since: String,
    /// What begins it: `some for 800ms within 1s`.
    pub threshold: String,
    /// How often it began since the agent started.
    pub times: u64,
    /// What is to be said of it; empty where there is nothing.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PressureState {
    /// Watched, for less time than calm takes.
    Settling,
    Calm,
    Raised,
    /// The kernel does not tell.
    Unknown,
    /// Not watched, as the machine config has it.
    Off,
}

impl Resource for Pressure {
    const KIND: &'static str = "pressures";
}

/// What the rebalancer of this control plane does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebalancing {
    /// `dryRun` or `on`.
    pub mode: String,
    /// The control plane that decides; empty where this one does not know.
    pub leader: String,
    /// Why it does nothing now.
    pub doing: String,
    /// What it did last; empty where this agent did nothing.
    pub last: String,
    /// Pods that this agent had evicted, or would have.
    pub evicted: u64,
}

impl Rebalancing {
    /// There is one.
    pub const NAME: &'static str = "cluster";
}

impl Resource for Rebalancing {
    const KIND: &'static str = "rebalancing";
}
