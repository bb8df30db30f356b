//! Power cuts that a seed chooses: where they fall, and how many of them a run makes.

use std::fmt::Debug;

use testbed::nbd::CutAt;

/// At a flush or at a write among those that a phase was seen to make.
pub fn cut_at(seed: u64, flushes: u64, writes: u64) -> CutAt {
    // An odd factor: neighbouring seeds land far apart.
    let draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    if seed.is_multiple_of(2) { CutAt::Flush(1 + draw % flushes) } else { CutAt::Write(1 + draw % writes) }
}

/// Tries the cut of each seed: as many as usual, or as a long run asks for.
pub fn each<C: Copy + Debug>(usual: u64, cut: impl Fn(u64) -> C, happens: impl Fn(C) -> anyhow::Result<()>) {
    let asked = std::env::var("CORTEN_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..asked.unwrap_or(usual) {
        let cut = cut(seed);
        if let Err(error) = happens(cut) {
            panic!("{cut:?}: {error:#}");
        }
    }
}
