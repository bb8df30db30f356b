//! What a machine, its services, pods and containers use, and how long they wait for it: read from cgroup v2 and /proc about once a second, at a
//! cost that is kept under a budget.
//!
//! The tree of cgroups is followed by inotify; of each cgroup a handful of files stay open and are read in place. What the kernel does not
//! tell (a controller that is off, no pressure stall information) is absent, never zero. No async runtime, no network, no Kubernetes: names of
//! pods are joined by whoever knows them.

pub mod collector;
pub mod file_systems;
pub mod group;
pub mod identity;
pub mod kept;
pub mod names;
pub mod network;
pub mod node;
pub mod open_metrics;
pub mod pace;
pub mod parse;
pub mod place;
pub mod rates;
pub mod sample;
pub mod score;
pub mod temperature;
pub mod tree;
pub mod trigger;
pub mod window;

pub use collector::{Collector, Reading, Snapshot};
pub use names::Names;
pub use place::{Place, Service};
pub use sample::Sample;
