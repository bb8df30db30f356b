//! Which unflushed write holds the newest bytes of which part of the disk.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint ranges of bytes, each with the number of the write that covered it last.
#[derive(Debug, Default)]
pub struct Extents {
    /// By start: end and write.
    ranges: BTreeMap<u64, (u64, usize)>,
}

impl Extents {
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// `write` is now the newest in `range`.
    pub fn insert(&mut self, range: Range<u64>, write: usize) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<(u64, u64, usize)> = self.touching(&range).collect();
        for (start, end, older) in touched {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, (range.start, older));
            }
            if end > range.end {
                self.ranges.insert(range.end, (end, older));
            }
        }
        self.ranges.insert(range.start, (range.end, write));
    }

    /// The parts of `range` that some write covers, cut to it.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, usize)> {
        let (low, high) = (range.start, range.end);
        self.touching(&range).map(move |(start, end, write)| (start.max(low)..end.min(high), write))
    }

    fn touching(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64, usize)> + use<'_> {
        let (low, high) = (range.start, range.end);
        // Ranges are disjoint: only the last one that starts before `low` can reach into it.
        let first = self.ranges.range(..low).next_back().map_or(low, |(start, _)| *start);
        self.ranges.range(first..high).filter(move |(_, (end, _))| *end > low).map(|(start, (end, write))| (*start, *end, *write))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_byte_belongs_to_its_last_write(writes in prop::collection::vec((0_u64..60, 1_u64..20), 0..40), from in 0_u64..60, len in 0_u64..30) {
            let mut extents = Extents::default();
            let mut plain = [None; 100];
            for (number, (start, len)) in writes.iter().enumerate() {
                extents.insert(*start..start + len, number);
                plain[*start as usize..(start + len) as usize].fill(Some(number));
            }
            let mut seen = [None; 100];
            for (range, write) in extents.within(from..from + len) {
                seen[range.start as usize..range.end as usize].fill(Some(write));
            }
            for byte in from..from + len {
                prop_assert_eq!(seen[byte as usize], plain[byte as usize]);
            }
        }
    }
}
