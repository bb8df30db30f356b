//! Addresses that go from machine to machine: the virtual IP, and those of Services. The machine that has one keeps it in its kernel with a lifetime,
//! so that it is gone soon after an agent that hangs or dies, and tells the neighbours when it comes.

mod announce;
mod link;

pub use announce::announce;
pub use link::{Kernel, Place, hold, remove};
