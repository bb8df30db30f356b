//! What of a base a chunk is like.

use std::convert::Infallible;

use bidiff::DiffParams;

use super::references::{BYTES, places};
use super::sections::Copy;

/// Stretches that are mostly equal, in the order of the chunk. References are left out of the comparison: code that moved is like what it was.
pub fn copies(base: &[u8], bytes: &[u8]) -> Vec<Copy> {
    let mut copies = Vec::new();
    // bidiff cannot look for anything in nothing.
    if base.is_empty() {
        return copies;
    }
    let found = bidiff::diff(&masked(base), &masked(bytes), &DiffParams::default(), |found| {
        if found.add_length > 0 {
            copies.push(Copy { old: found.add_old_start, new: found.add_new_start, length: found.add_length });
        }
        Ok::<(), Infallible>(())
    });
    match found {
        Ok(()) => copies,
        Err(never) => match never {},
    }
}

/// Without what references lead to.
pub fn masked(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    places(bytes).for_each(|place| masked[place..][..BYTES].fill(0));
    masked
}
