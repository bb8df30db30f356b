//! What is done about pressure: when a machine tells of it (`machine.pressure`), and what the control planes do then (`cluster.pressure`).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration(std::time::Duration::from_secs(seconds))
}

const fn millis(millis: u64) -> Duration {
    Duration(std::time::Duration::from_millis(millis))
}

/// When the machine is under pressure: thresholds that the kernel itself watches, in its pressure stall information.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MachinePressure {
    /// Waiting for a CPU. Default: stall some, for 800ms, within 1s.
    pub cpu: PressureThreshold,
    /// Waiting for memory that is paged in or made free. Default: stall full, for 100ms, within 1s.
    pub memory: PressureThreshold,
    /// Waiting for disks. Default: stall full, for 400ms, within 1s.
    pub io: PressureThreshold,
    /// How long a threshold must not be passed before pressure counts as over. Default: 60s.
    pub calm: Duration,
    /// Whether the Node says so, as conditions `corten.dev/CPUPressure`, `MemoryPressure` and `IOPressure`. Default: true.
    pub conditions: bool,
}

impl Default for MachinePressure {
    fn default() -> MachinePressure {
        let within = |stall, time| PressureThreshold { stall, time: millis(time), within: seconds(1) };
        MachinePressure {
            cpu: within(Stall::Some, 800),
            memory: within(Stall::Full, 100),
            io: within(Stall::Full, 400),
            calm: seconds(60),
            conditions: true,
        }
    }
}

/// Pressure begins when tasks stood still for so long within a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PressureThreshold {
    /// Whose standing still counts; none: it is not watched. No default.
    pub stall: Stall,
    /// How long they stood still, all in all. No default.
    #[serde(rename = "for")]
    pub time: Duration,
    /// The window, 500ms to 10s. No default.
    pub within: Duration,
}

impl fmt::Display for PressureThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.stall {
            Stall::Some => "some",
            Stall::Full => "full",
            Stall::None => return f.write_str("none"),
        };
        write!(f, "{who} for {} within {}", self.time, self.within)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Stall {
    /// One task or more that had work stood still.
    Some,
    /// All tasks that had work stood still.
    Full,
    /// Nothing counts.
    None,
}

/// What control planes do about nodes under pressure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterPressure {
    /// A soft taint, for clusters whose scheduler does not ask for Corten's scores.
    pub taint: PressureTaint,
    /// Evicts pods from nodes under lasting pressure, so that they are made again elsewhere.
    pub rebalance: Rebalance,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PressureTaint {
    /// Whether nodes under pressure get the taint `corten.dev/pressure:PreferNoSchedule`. Default: false.
    pub enabled: bool,
    /// How long a node must have been under pressure. Default: 30s.
    pub after: Duration,
}

impl Default for PressureTaint {
    fn default() -> PressureTaint {
        PressureTaint { enabled: false, after: seconds(30) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rebalance {
    /// Default: off.
    pub mode: RebalanceMode,
    /// How long a node must have been under pressure. Default: 5m.
    pub after: Duration,
    /// Least time between two evictions from one node. Default: 5m.
    pub node_pause: Duration,
    /// Least time between two evictions in the cluster. Default: 1m.
    pub cluster_pause: Duration,
}

impl Default for Rebalance {
    fn default() -> Rebalance {
        Rebalance { mode: RebalanceMode::Off, after: seconds(300), node_pause: seconds(300), cluster_pause: seconds(60) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RebalanceMode {
    /// No pod is evicted.
    Off,
    /// What would be evicted is told, and the API server asked whether it would let it.
    DryRun,
    /// Pods are evicted.
    On,
}
