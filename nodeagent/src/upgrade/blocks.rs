//! Which blocks of a stretch differ from what lies on the disk: an upgrade writes those and no others.

use std::ops::Range;

/// Of erofs, dm-verity and most disks, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// The ranges of `wanted` that must be written where `there` lies at `offset`: whole blocks of the part, but for the ends of `wanted`.
/// `there` is shorter where the part ends. Neighbours are one range.
pub fn changed(offset: u64, there: &[u8], wanted: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    while start < wanted.len() {
        // A chunk begins anywhere in a block; what is left of it is less than a block.
        let left = BLOCK_BYTES - (offset + start as u64) % BLOCK_BYTES;
        let end = wanted.len().min(start + left as usize);
        if there.get(start..end) != wanted.get(start..end) {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one range is what is expected")]
    fn blocks_are_those_of_the_part_and_not_of_the_chunk() {
        let there = vec![0; 20_000];
        let mut wanted = there.clone();
        assert!(changed(5000, &there, &wanted).is_empty());
        wanted[3191] = 1;
        assert_eq!(changed(5000, &there, &wanted), [0..3192], "the last byte of the block in which the chunk begins");
        wanted[3191] = 0;
        wanted[3192] = 1;
        assert_eq!(changed(5000, &there, &wanted), [3192..7288]);
        wanted[7288] = 1;
        assert_eq!(changed(5000, &there, &wanted), [3192..11_384], "neighbours are written at once");
        assert_eq!(changed(0, &[], &[1; 10]), [0..10], "where nothing is yet");
        assert_eq!(changed(0, &[1; 5000], &[1; 9000]), [4096..9000], "where the part ends");
    }

    proptest! {
        #[test]
        fn written_over_it_is_what_is_wanted_and_no_block_more(
            offset in 0..10_000_u64, mut there in prop::collection::vec(0..2_u8, 0..30_000), wanted in prop::collection::vec(0..1_u8, 0..30_000),
            equal in any::<bool>(),
        ) {
            if equal {
                there.fill(0);
            }
            let ranges = changed(offset, &there, &wanted);
            let differs = |range: &Range<usize>| there.get(range.clone()) != wanted.get(range.clone());
            prop_assert!(ranges.iter().all(differs));
            let mut result = there;
            result.resize(wanted.len(), 9);
            for range in ranges {
                result[range.clone()].copy_from_slice(&wanted[range]);
            }
            prop_assert_eq!(result, wanted);
        }
    }
}
