//! A snapshot as text for Prometheus and its like, under the names that upstream uses: `container_*` and `machine_*` as the kubelet's
//! `/metrics/cadvisor` has them, `node_*` as node_exporter does, `pod_*` as `/metrics/resource`. What is absent has no line.
//!
//! How many lines there are is bounded by how many cgroups are read, and no label holds what a pod may choose but its names.

mod groups;
mod machine;
pub mod text;

use crate::collector::Snapshot;
use crate::names::Names;
pub use groups::labels_of;
pub use text::{Format, Text};

/// All that the collector knows.
pub fn render(snapshot: &Snapshot, names: &Names, text: &mut Text) {
    machine::render(snapshot, text);
    groups::render(snapshot, names, text);
}

#[cfg(test)]
mod tests;
