//! What the tests of the whole share: where things are built, waiting with a deadline, a local cluster that ends with its test, and
//! one machine whose power and disk the test has in hand.

pub mod cluster;
pub mod node;
pub mod place;
pub mod program;
pub mod sample;
pub mod until;
