//! Swaps of the image: machines that take an update, prove good with it, or go back to what they had.

mod last_words;
pub mod matrix;
mod power;
mod recovery;
mod reset;
pub mod swap;
mod tried;
pub mod unloadable;

pub use power::{Cut, During};
