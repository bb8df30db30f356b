//! kube-scheduler's own rules of weight 1: NodeResourcesFit with LeastAllocated, and NodeResourcesBalancedAllocation (v1.37,
//! pkg/scheduler/framework/plugins/noderesources). Rules that look at labels, images and taints see no difference between these nodes.

use super::Policy;
use crate::cluster::{Node, counted};
use crate::workload::{Pod, Requests};

const MOST: i64 = 100;

#[derive(Debug)]
pub struct Kubernetes;

impl Policy for Kubernetes {
    fn observe(&mut self, _: &[Node], _: f64) {}

    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], _: f64, scores: &mut Vec<i64>) {
        scores.extend(fits.iter().map(|at| least_allocated(pod, &nodes[*at]) + balanced(pod, &nodes[*at])));
    }

    fn bound(&mut self, _: &Pod, _: usize, _: f64) {}
}

fn least_allocated(pod: &Pod, node: &Node) -> i64 {
    let more = counted(pod);
    let free = |used: f64, of: f64| if used > of { 0 } else { ((of - used) * MOST as f64 / of) as i64 };
    let cpu = free(node.counted.cpus + more.cpus, f64::from(node.cpus));
    (cpu + free(node.counted.memory_bytes + more.memory_bytes, node.memory_bytes)) / 2
}

/// Better where the pod brings the shares of CPU and memory closer to each other. Pods that ask for nothing are not judged.
fn balanced(pod: &Pod, node: &Node) -> i64 {
    if pod.requests == Requests::default() {
        return 0;
    }
    let score = |requested: Requests| {
        let share = |used: f64, of: f64| (used / of).min(1.0);
        let deviation = (share(requested.cpus, f64::from(node.cpus)) - share(requested.memory_bytes, node.memory_bytes)).abs() / 2.0;
        ((1.0 - deviation) * MOST as f64) as i64
    };
    let before = node.requested;
    let after = Requests { cpus: before.cpus + pod.requests.cpus, memory_bytes: before.memory_bytes + pod.requests.memory_bytes };
    MOST / 2 + (MOST / 2 + score(after) - score(before)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::nodes;
    use crate::workload::{GIB, Program};

    fn pod(cpus: f64, gib: f64) -> Pod {
        let requests = Requests { cpus, memory_bytes: gib * GIB };
        Pod { at: 0.0, requests, memory_used_bytes: 0.0, program: Program::Batch { threads: 1, work: 1e6 }, seed: 1 }
    }

    fn scores(pod: &Pod, nodes: &[Node]) -> Vec<i64> {
        let mut scores = Vec::new();
        let fits: Vec<usize> = (0..nodes.len()).collect();
        Kubernetes.score(pod, nodes, &fits, 0.0, &mut scores);
        scores
    }

    #[test]
    fn as_upstream_reckons() {
        let mut nodes = nodes(2);
        nodes[0].bind(pod(2.0, 4.0), 0.0);
        // Of 4 CPUs and 16 GiB: 3 and 6 asked for with the pod, 25 and 62 of 100 left; balance from 0.125 to 0.1875.
        assert_eq!(least_allocated(&pod(1.0, 2.0), &nodes[0]), (25 + 62) / 2);
        assert_eq!(balanced(&pod(1.0, 2.0), &nodes[0]), 50 + (50 + 81 - 87) / 2);
        assert!(scores(&pod(1.0, 4.0), &nodes).is_sorted(), "the empty one is better");
        assert_eq!(balanced(&pod(0.0, 0.0), &nodes[0]), 0);
    }
}
