//! The machine config. [`Document`] is what a file says; [`Config`] is the same after defaults, merging and every check, and the only type
//! that controllers see.

mod cluster;
mod document;
mod host;
mod value;

pub use cluster::*;
pub use document::{API_VERSION, Config, Document, KIND};
pub use host::*;
pub use value::{ByteSize, Duration, Secret};
