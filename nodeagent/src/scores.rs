//! How well each node of the cluster would do with one more pod, on control planes: what the nodes' agents tell, and the pods that are on their
//! way to them. The scheduler asks (`serve`), and whoever wants to know why (`machinectl get scores`). docs/scheduling.md derives the scores.

mod bindings;
mod follow;
mod publish;
#[cfg(test)]
mod real;
mod serve;

pub use bindings::bindings;
pub use extender::Scores;
pub use follow::{Listeners, follow, until_control_plane};
pub use publish::publish;
pub use serve::serve;
