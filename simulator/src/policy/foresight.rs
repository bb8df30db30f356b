//! No rule that could be: it knows what every pod will do, and spreads that. What others come to is between what they know and this.

use super::Policy;
use crate::cluster::{Node, mean_cpus};
use crate::workload::Pod;

/// Finer than any pod.
const SCALE: f64 = 1e6;

#[derive(Debug)]
pub struct Foresight;

impl Policy for Foresight {
    fn observe(&mut self, _: &[Node], _: f64) {}

    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], _: f64, scores: &mut Vec<i64>) {
        let free = |node: &Node| 1.0 - (node.mean_cpus + mean_cpus(pod)) / f64::from(node.cpus);
        scores.extend(fits.iter().map(|at| (SCALE * free(&nodes[*at])) as i64));
    }

    fn bound(&mut self, _: &Pod, _: usize, _: f64) {}
}
