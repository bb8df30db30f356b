//! What the tests of the whole share: where things are built, waiting with a deadline, and a local cluster that ends with its test.

pub mod cluster;
pub mod place;
pub mod sample;
pub mod until;
