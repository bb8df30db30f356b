//! What the tests of the whole share: where things are built, waiting with a deadline, a local cluster that ends with its test,
//! one machine whose power and disk the test has in hand, and images with faults.

pub mod cluster;
pub mod images;
pub mod node;
pub mod place;
pub mod program;
pub mod sample;
pub mod until;
