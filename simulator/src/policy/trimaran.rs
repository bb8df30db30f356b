//! Trimaran's two published rules (kubernetes-sigs/scheduler-plugins, pkg/trimaran), with the values that they have unless told otherwise. They see
//! what load-watcher tells, at most half a minute old. TargetLoadPacking gets the mean of the last half minute, as from the metrics server, and
//! LoadVariationRiskBalancing mean and deviation of five minutes, the shortest of load-watcher's windows: the best that either can have.

use crate::STEP_SECONDS;
use crate::cluster::{HISTORY, Node};
use crate::workload::{Pod, Requests};

use super::{HEARS_AFTER, Policy};

const REFRESH_SECONDS: f64 = 30.0;
const LATEST: usize = (30.0 / STEP_SECONDS) as usize;

/// Percent of a node's CPUs that are to be used.
const TARGET: f64 = 40.0;
/// What a pod is expected to use of what it asks for, and CPUs of one that asks for nothing.
const MULTIPLIER: f64 = 1.5;
const CPUS_OF_NO_REQUEST: f64 = 1.0;
/// Pods count by themselves until the figures have them: those bound since so many seconds before the figures' time.
const REPORTED_AFTER_SECONDS: f64 = 60.0;

/// Mean and standard deviation of CPUs in use over the newest steps.
fn over(node: &Node, steps: usize) -> (f64, f64) {
    let values = node.history.iter().rev().take(steps).map(|value| f64::from(*value));
    let (count, sum, squares) =
        values.fold((0.0, 0.0, 0.0), |(count, sum, squares), value| (count + 1.0, sum + value, squares + value * value));
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let mean: f64 = sum / count;
    (mean, (squares / count - mean * mean).max(0.0).sqrt())
}

/// Whether the figures are to be had anew.
fn refresh(taken: &mut Option<f64>, now: f64) -> bool {
    let due = taken.is_none_or(|taken| now - taken >= REFRESH_SECONDS);
    if due {
        *taken = Some(now);
    }
    due
}

#[derive(Debug, Default)]
pub struct TargetLoadPacking {
    taken: Option<f64>,
    cpus_used: Vec<f64>,
    /// By node: pods that the figures may lack, as what they will use and when that was heard of: the plugin watches pods.
    bound: Vec<Vec<(f64, f64)>>,
}

fn predicted(pod: &Pod) -> f64 {
    if pod.requests.cpus > 0.0 { pod.requests.cpus * MULTIPLIER } else { CPUS_OF_NO_REQUEST }
}

/// Rises to the target, and falls from there to 0 where all would be used.
fn packing(predicted_percent: f64) -> i64 {
    match predicted_percent {
        percent if percent > 100.0 => 0,
        percent if percent > TARGET => (TARGET * (100.0 - percent) / (100.0 - TARGET)).round() as i64,
        percent => ((100.0 - TARGET) * percent / TARGET + TARGET).round() as i64,
    }
}

impl Policy for TargetLoadPacking {
    fn observe(&mut self, nodes: &[Node], now: f64) {
        self.bound.resize(nodes.len(), Vec::new());
        if refresh(&mut self.taken, now) {
            self.cpus_used = nodes.iter().map(|node| over(node, LATEST).0).collect();
            self.bound.iter_mut().for_each(|bound| bound.retain(|(_, since)| now - since < REPORTED_AFTER_SECONDS));
        }
    }

    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], _: f64, scores: &mut Vec<i64>) {
        scores.extend(fits.iter().map(|at| {
            let missing: f64 = self.bound[*at].iter().filter(|(_, heard)| *heard <= pod.at).map(|(cpus, _)| cpus).sum();
            packing(100.0 * (self.cpus_used[*at] + missing + predicted(pod)) / f64::from(nodes[*at].cpus))
        }));
    }

    fn bound(&mut self, pod: &Pod, node: usize, _: f64) {
        self.bound[node].push((predicted(pod), pod.at + HEARS_AFTER));
    }
}

#[derive(Debug, Default)]
pub struct LoadVariationRiskBalancing {
    taken: Option<f64>,
    /// Mean and deviation of CPUs in use, and bytes in use.
    figures: Vec<(f64, f64, f64)>,
}

/// The risk is half of mean and deviation, both as shares (margin and sensitivity 1).
fn risk(used: f64, deviation: f64, asked: f64, of: f64) -> i64 {
    let (mean, deviation) = (((used + asked) / of).clamp(0.0, 1.0), (deviation / of).clamp(0.0, 1.0));
    ((1.0 - (mean + deviation) / 2.0) * 100.0).round() as i64
}

impl Policy for LoadVariationRiskBalancing {
    fn observe(&mut self, nodes: &[Node], now: f64) {
        if refresh(&mut self.taken, now) {
            let figures = |node: &Node| {
                let (mean, deviation) = over(node, HISTORY);
                (mean, deviation, node.memory_used_bytes)
            };
            self.figures = nodes.iter().map(figures).collect();
        }
    }

    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], _: f64, scores: &mut Vec<i64>) {
        let Requests { cpus, memory_bytes } = pod.requests;
        scores.extend(fits.iter().map(|at| {
            let (mean, deviation, memory) = self.figures[*at];
            risk(mean, deviation, cpus, f64::from(nodes[*at].cpus)).min(risk(memory, 0.0, memory_bytes, nodes[*at].memory_bytes))
        }));
    }

    fn bound(&mut self, _: &Pod, _: usize, _: f64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_best_at_the_target() {
        // The values of upstream's guide: 40 at nothing, 100 at the target, 0 at and above all.
        assert_eq!([0.0, 20.0, 40.0, 70.0, 100.0, 120.0].map(packing), [40, 70, 100, 20, 0, 0]);
    }

    #[test]
    fn risk_is_of_mean_and_deviation_alike() {
        assert_eq!(
            (risk(0.0, 0.0, 0.0, 4.0), risk(2.0, 1.0, 0.0, 4.0), risk(2.0, 0.0, 1.0, 4.0), risk(9.0, 9.0, 9.0, 4.0)),
            (100, 63, 63, 0)
        );
    }
}
