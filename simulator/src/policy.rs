//! Rules that give nodes scores for a pod, as kube-scheduler adds them up.

mod foresight;
mod kubernetes;
mod pressure;
mod trimaran;

use crate::cluster::Node;
use crate::workload::Pod;

/// Seconds until those who watch pods hear where one was bound: the scheduler's request to the API server, and the API server's event. The scheduler
/// itself knows at once.
const HEARS_AFTER: f64 = 0.1;

/// A rule with what it remembers. Scores are whole numbers; the pod goes to one of those with the highest.
pub trait Policy {
    /// Once a step, after the nodes have moved on.
    fn observe(&mut self, nodes: &[Node], now: f64);
    /// The scores of `fits`, in its order, appended to `scores`.
    fn score(&mut self, pod: &Pod, nodes: &[Node], fits: &[usize], now: f64, scores: &mut Vec<i64>);
    /// The pod went to this node.
    fn bound(&mut self, pod: &Pod, node: usize, now: f64);
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// What kube-scheduler does unless told otherwise: least allocated and balanced allocation.
    Kubernetes,
    /// Trimaran's, alone, as its guide has it.
    TargetLoadPacking,
    LoadVariationRiskBalancing,
    /// Kubernetes' and ours with this weight, as a Corten cluster has them.
    Pressure {
        weight: i64,
    },
    /// Knows what pods will do: what no rule can reach.
    Foresight,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Kubernetes => "kube-scheduler",
            Rule::TargetLoadPacking => "TargetLoadPacking",
            Rule::LoadVariationRiskBalancing => "LoadVariationRiskBalancing",
            Rule::Pressure { .. } => "node score",
            Rule::Foresight => "foresight",
        }
    }

    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Rule::Kubernetes => Box::new(kubernetes::Kubernetes),
            Rule::TargetLoadPacking => Box::<trimaran::TargetLoadPacking>::default(),
            Rule::LoadVariationRiskBalancing => Box::<trimaran::LoadVariationRiskBalancing>::default(),
            Rule::Pressure { weight } => Box::new(pressure::Pressure::new(weight)),
            Rule::Foresight => Box::new(foresight::Foresight),
        }
    }
}
