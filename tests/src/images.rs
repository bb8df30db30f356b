//! Images with a fault of a test's choosing: what an upgrade must survive. Built images give the material; nothing of ours is compiled.
//!
//! A fault in what the machine runs is built in ([`Build`], with a program replaced by a few bytes, see [`program`]); a fault in
//! the bytes of a slot, and one in what an update file says, is made of a built image's parts ([`Parts`]); one in the file's own bytes of the file
//! ([`Stream`]).

mod build;
pub mod measured;
mod owner;
mod parts;
pub mod program;
mod stand_in;
mod stream;

pub use build::Build;
pub use owner::Owner;
pub use parts::Parts;
pub use stream::Stream;
