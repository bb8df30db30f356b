//! A cluster, its pods and kube-scheduler in miniature, to see what a rule of placement does to the pressure on nodes. docs/simulator.md says what
//! is modelled, where the figures come from, and what came out.
//!
//! Everything follows from a seed, and all rules get the same pods: a pod's behaviour depends on the seed and on the pod, never on where it runs.
//! No clock, no threads, no input or output.

pub mod cluster;
pub mod policy;
pub mod queue;
pub mod run;
pub mod workload;

/// Seconds between two looks at the cluster, as the kernel's pressure averages have it (PSI_FREQ in kernel/sched/psi.c).
pub const STEP_SECONDS: f64 = 2.0;
