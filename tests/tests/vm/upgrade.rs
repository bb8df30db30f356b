//! Swaps of the image: machines that take an update, prove good with it, or go back to what they had.

pub mod matrix;
mod power;
mod recovery;
mod reset;
pub mod swap;
mod tried;

pub use power::{Cut, During};
