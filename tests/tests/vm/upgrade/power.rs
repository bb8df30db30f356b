//! Power cuts while the image is swapped. Whatever is cut: the machine comes up with its config in the old image or in the new one, what its
//! boot loader would start is whole, and the same command again gets to the end.

mod cut;
pub mod disk;
mod failpoints;
mod installing;
mod look;
mod prepared;
mod swapping;

use crate::seeds;

pub use cut::{Cut, During};

#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn random_cuts() -> anyhow::Result<()> {
    // One of each kind, where no more are asked for.
    seeds::each(seeds::asked(During::ALL.len() as u64)?, Cut::of, Cut::happens)
}
