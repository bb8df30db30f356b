//! Swaps of the image: machines that take an update, prove good with it, or go back to what they had.

pub mod matrix;
mod power;
pub mod swap;
pub mod unloadable;

pub use power::{Cut, During};
