//! Thresholds that the kernel takes, and times that are neither a flutter nor for ever.

use std::time::Duration;

use super::Check;
use crate::config::report::Path;
use crate::config::{ClusterPressure, MachinePressure, PressureThreshold, Stall};

/// What the kernel takes as a window (kernel/sched/psi.c, WINDOW_MIN_US and WINDOW_MAX_US).
const WITHIN_LEAST: Duration = Duration::from_millis(500);
const WITHIN_MOST: Duration = Duration::from_secs(10);
/// Each time that pressure begins or ends, the Node is written.
const CALM_LEAST: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
/// A pod that was evicted takes a while to show elsewhere.
const PAUSE_LEAST: Duration = Duration::from_secs(10);

pub fn machine(pressure: &MachinePressure, check: &mut Check<'_>) {
    let path = Path::of("machine.pressure");
    for (name, threshold) in [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)] {
        one(&path.key(name), threshold, check);
    }
    if pressure.cpu.stall == Stall::Full {
        let remedy = "the kernel tells of no CPU that all tasks of a machine wait for";
        check.add(&path.key("cpu").key("stall"), "full", "some or none", remedy);
    }
    if !(CALM_LEAST..=DAY).contains(&pressure.calm.0) {
        check.add(&path.key("calm"), pressure.calm.to_string(), "10s to 1d", "less would have the Node change with every burst of work");
    }
}

fn one(path: &Path, threshold: PressureThreshold, check: &mut Check<'_>) {
    if !(WITHIN_LEAST..=WITHIN_MOST).contains(&threshold.within.0) {
        check.add(&path.key("within"), threshold.within.to_string(), "500ms to 10s", "");
    } else if threshold.time.0.is_zero() || threshold.time.0 > threshold.within.0 {
        check.add(
            &path.key("for"),
            threshold.time.to_string(),
            format!("more than nothing, and at most within, which is {}", threshold.within),
            "",
        );
    }
}

pub fn cluster(pressure: &ClusterPressure, check: &mut Check<'_>) {
    let path = Path::of("cluster.pressure");
    let (taint, rebalance) = (&pressure.taint, &pressure.rebalance);
    let times = [
        (path.key("taint").key("after"), taint.after, Duration::ZERO, "0s to 1d"),
        (path.key("rebalance").key("after"), rebalance.after, PAUSE_LEAST, "10s to 1d"),
        (path.key("rebalance").key("nodePause"), rebalance.node_pause, PAUSE_LEAST, "10s to 1d"),
        (path.key("rebalance").key("clusterPause"), rebalance.cluster_pause, PAUSE_LEAST, "10s to 1d"),
    ];
    for (path, time, least, expected) in times {
        if !(least..=DAY).contains(&time.0) {
            check.add(&path, time.to_string(), expected, "");
        }
    }
}
