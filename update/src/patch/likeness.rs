//! Where in an image a chunk has most in common with it. Functions and files change places from one build to the next, so that what a chunk is
//! like may be far from where the equal chunks around it are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::difference::masked;
use super::{Base, MAX_BASE_BYTES};
use crate::manifest::PartName;

/// Bytes that are compared at a time: a few instructions.
const WINDOW: usize = 16;
/// One of so many windows is looked at, as their bytes have it: the same ones in both images.
const SAMPLED: u64 = 32;
/// Fewer equal windows say nothing.
const FEWEST: usize = 3;

/// Samples of one part of an image, and where they are.
#[derive(Debug, Default)]
pub struct Landmarks(HashMap<u64, Option<u64>>);

impl Landmarks {
    /// Takes in what stands at an offset. A sample that is found in two places leads nowhere.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        for (hash, at) in samples(bytes) {
            match self.0.entry(hash) {
                Entry::Vacant(entry) => {
                    entry.insert(Some(offset + at as u64));
                }
                Entry::Occupied(mut entry) => {
                    entry.insert(None);
                }
            }
        }
    }

    /// The stretch of a part of this size that has most of the chunk's samples, if any has.
    pub fn base(&self, part: PartName, part_bytes: u64, chunk: &[u8]) -> Option<Base> {
        let mut found: Vec<u64> = samples(chunk).filter_map(|(hash, _)| *self.0.get(&hash)?).collect();
        found.sort_unstable();
        let longest = u64::from(MAX_BASE_BYTES);
        let reach = |from: u64| found.partition_point(|offset| offset + WINDOW as u64 <= from + longest);
        let numbers = found.iter().enumerate().map(|(index, from)| (reach(*from).saturating_sub(index), index));
        // Of several, the first.
        let (number, first) = numbers.rev().max_by_key(|(number, _)| *number)?;
        if number < FEWEST {
            return None;
        }
        let (from, to) = (found[first], found[first + number - 1]);
        // As much on either side.
        let offset = from.saturating_sub((longest - (to - from)) / 2).min(part_bytes.saturating_sub(longest));
        Some(Base { part, offset, length: longest.min(part_bytes - offset) as u32 })
    }
}

/// Windows whose hash ends in zeros, by a hash that rolls over the bytes; references are left out of it.
fn samples(bytes: &[u8]) -> impl Iterator<Item = (u64, usize)> {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let leaving = (0..WINDOW).fold(1_u64, |power, _| power.wrapping_mul(FACTOR));
    let bytes = masked(bytes);
    let mut hash = 0_u64;
    (0..bytes.len()).filter_map(move |at| {
        hash = hash.wrapping_mul(FACTOR).wrapping_add(u64::from(bytes[at]) + 1);
        if at >= WINDOW {
            hash = hash.wrapping_sub((u64::from(bytes[at - WINDOW]) + 1).wrapping_mul(leaving));
        }
        // The lower bits of a product hang on lower bits only.
        (at + 1 >= WINDOW && (hash >> 32).is_multiple_of(SAMPLED)).then(|| (hash, at + 1 - WINDOW))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_moved_far_is_found() {
        let old = noise(1, 3 << 20);
        let mut landmarks = Landmarks::default();
        old.chunks(100_000).enumerate().for_each(|(index, bytes)| landmarks.add(index as u64 * 100_000, bytes));
        let size = old.len() as u64;
        let at = |from: usize| landmarks.base(PartName::Root, size, &old[from..][..60_000]).unwrap();
        let middle = at(2_000_000);
        assert_eq!(middle.length, MAX_BASE_BYTES);
        assert!(middle.offset < 1_900_000 && middle.offset + u64::from(middle.length) > 2_160_000, "{middle:?}");
        assert_eq!(at(0).offset, 0, "within the part");
        let last = at(old.len() - 60_000);
        assert_eq!(last.offset + u64::from(last.length), size);
        assert_eq!(landmarks.base(PartName::Root, size, &noise(2, 60_000)), None, "nothing is like it");
        landmarks.add(size, &old[2_000_000..2_060_000]);
        assert_eq!(landmarks.base(PartName::Root, size, &old[2_010_000..2_050_000]), None, "it stands in two places");
    }

    #[test]
    fn the_place_with_most_of_it_counts() {
        let old = noise(3, 4 << 20);
        let mut landmarks = Landmarks::default();
        landmarks.add(0, &old);
        let chunk = [&old[1 << 20..][..20_000], &old[3 << 20..][..40_000]].concat();
        let base = landmarks.base(PartName::Root, old.len() as u64, &chunk).unwrap();
        assert!(base.offset <= 3 << 20 && base.offset + u64::from(base.length) >= (3 << 20) + 40_000, "{base:?}");
    }

    #[test]
    fn a_short_part_is_the_base_as_a_whole() {
        let old = noise(4, 50_000);
        let mut landmarks = Landmarks::default();
        landmarks.add(0, &old);
        assert_eq!(landmarks.base(PartName::Uki, 50_000, &old[10_000..]), Some(Base { part: PartName::Uki, offset: 0, length: 50_000 }));
        assert_eq!(landmarks.base(PartName::Uki, 50_000, &[]), None);
    }
}
