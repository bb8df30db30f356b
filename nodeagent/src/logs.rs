//! Reading logs: files that grow and rotate, and the kernel's ring buffer.

mod chunks;
pub mod kmsg;
mod layout;
mod tail;
mod wait;

pub use chunks::Chunks;
pub use layout::Layout;
pub use wait::Wait;
