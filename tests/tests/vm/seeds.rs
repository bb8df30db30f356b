//! Power cuts that a seed chooses: which seeds a run takes, and where their cuts fall.

use std::fmt::Debug;
use std::ops::Range;

use anyhow::Context;
use testbed::Dice;
use testbed::nbd::CutAt;

/// Neighbouring seeds land far apart.
pub fn draw(seed: u64) -> u64 {
    Dice::new(seed).draw()
}

/// At a flush or at a write among those that a phase was seen to make.
pub fn cut_at(seed: u64, flushes: u64, writes: u64) -> CutAt {
    let draw = draw(seed);
    if draw & 1 == 0 { CutAt::Flush(1 + (draw >> 1) % flushes) } else { CutAt::Write(1 + (draw >> 1) % writes) }
}

/// The seeds of a run: `CORTEN_SEED` names the first, `CORTEN_SEEDS` how many. One alone is that one alone.
pub fn asked(usual: u64) -> anyhow::Result<Range<u64>> {
    let number = |name: &str| match std::env::var(name) {
        Ok(text) => text.parse().map(Some).with_context(|| format!("{name}={text}: expected a number")),
        Err(_) => Ok(None),
    };
    let (first, count) = (number("CORTEN_SEED")?, number("CORTEN_SEEDS")?);
    let count = count.unwrap_or(if first.is_some() { 1 } else { usual });
    let first = first.unwrap_or(0);
    Ok(first..first.saturating_add(count))
}

/// Tries the cut of each seed, whatever became of those before it, and names those that went wrong.
pub fn each<C: Copy + Debug>(seeds: Range<u64>, cut: impl Fn(u64) -> C, happens: impl Fn(C) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let cut = cut(seed);
        if let Err(error) = happens(cut) {
            println!("  {cut:?}: {error:#}");
            wrong.push(seed);
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{} of {count} cuts went wrong, see above; one again: CORTEN_SEED={}", wrong.len(), wrong[0]);
    Ok(())
}
