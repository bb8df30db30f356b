//! Swaps of the image: machines that take an update, prove good with it, or go back to what they had.

mod kubernetes;
mod last_words;
pub mod matrix;
mod power;
mod recovery;
mod reset;
mod rolling;
mod serving;
mod standing;
pub mod swap;
mod tried;
pub mod unloadable;

pub use power::{Cut, During};
