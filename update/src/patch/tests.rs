use proptest::prelude::*;

use super::*;
use crate::chunk::split;
use crate::sample::manifest;

/// A manifest whose root holds these chunks: a letter each, and its size.
fn image(chunks: &[(char, u32)]) -> Manifest {
    let mut manifest = manifest();
    manifest.slot_bytes = 1024 * 1024 * 1024;
    let chunk = |(name, size): &(char, u32)| Chunk { sha256: digest(*name), size: *size };
    let chunks: Vec<Chunk> = chunks.iter().map(chunk).collect();
    manifest.parts[0].size_bytes = chunks.iter().map(|chunk| u64::from(chunk.size)).sum();
    manifest.parts[0].chunks = chunks;
    manifest.check().unwrap();
    manifest
}

fn digest(name: char) -> Digest {
    Digest::of(name.to_string().as_bytes())
}

const KIB: u32 = 1024;

fn base(offset_kib: u64, length_kib: u32) -> Base {
    Base { part: PartName::Root, offset: offset_kib * 1024, length: length_kib * KIB }
}

#[test]
fn a_base_lies_between_the_same_chunks() {
    let far = 200 * KIB;
    let old = image(&[('a', far), ('b', far), ('c', far), ('d', far), ('e', far)]);
    // c changed and grew; a new chunk came to the end.
    let new = image(&[('a', far), ('b', far), ('C', 250 * KIB), ('d', far), ('e', far), ('F', far)]);
    let found = bases(&old, &new);
    assert_eq!(found.len(), 2, "what the machine has needs no base");
    assert_eq!(found[&digest('C')], base(400 - 128, 250 + 2 * 128));
    assert_eq!(found[&digest('F')], base(1000 - 128, 128), "up to the end of the part");
}

#[test]
fn a_stretch_that_grew_is_looked_for_in_proportion() {
    let old = image(&[('a', 200 * KIB), ('b', 200 * KIB), ('c', 200 * KIB), ('d', 200 * KIB)]);
    let new = image(&[('a', 200 * KIB), ('1', 200 * KIB), ('2', 200 * KIB), ('3', 200 * KIB), ('4', 200 * KIB), ('d', 200 * KIB)]);
    let found = bases(&old, &new);
    let middles: Vec<u64> = ['1', '2', '3', '4'].map(|name| found[&digest(name)].offset / 1024 + 128).to_vec();
    assert_eq!(middles, [200, 300, 400, 500]);
}

/// Zeros stand everywhere, and a file may be moved: neither says where anything else is.
#[test]
fn chunks_that_stand_twice_or_moved_are_no_anchors() {
    let far = 200 * KIB;
    let old = image(&[('0', far), ('a', far), ('b', far), ('0', far), ('c', far), ('m', far)]);
    let new = image(&[('m', far), ('a', far), ('0', far), ('B', far), ('c', far), ('0', far)]);
    let found = bases(&old, &new);
    assert_eq!(found.len(), 1);
    let Base { offset, length, .. } = found[&digest('B')];
    assert!(offset + u64::from(length) <= 6 * u64::from(far));
}

#[test]
fn a_patch_makes_the_chunk_of_its_base_only() {
    let old: Vec<u8> = (0..100_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut new = old[100_000..200_000].to_vec();
    (0..new.len()).step_by(1000).for_each(|at| new[at] ^= 0x55);
    let expected = Chunk { sha256: Digest::of(&new), size: new.len() as u32 };
    let base = &old[50_000..300_000];
    let patch = compress_from(base, &new, 3).unwrap();
    let whole = crate::compress(&new, 3).unwrap();
    assert!(patch.len() * 10 < whole.len(), "{} bytes, {} without a base", patch.len(), whole.len());
    assert_eq!(decompress_from(base, &patch, &expected).unwrap(), new);
    for other in [&old[..250_000], &base[..base.len() - 1], &[]] {
        assert!(decompress_from(other, &patch, &expected).is_err());
    }
    assert_eq!(decompress_from(&[], &whole, &expected).unwrap(), new, "without a base it is an ordinary chunk");
}

/// A base that begins as a dictionary of zstd does is content like any other.
#[test]
fn no_base_is_taken_for_a_dictionary() {
    let base = [&0xEC30_A437_u32.to_le_bytes()[..], &[7; 5000], b"and something else"].concat();
    let expected = Chunk { sha256: Digest::of(&base), size: base.len() as u32 };
    let patch = compress_from(&base, &base, 19).unwrap();
    assert_eq!(decompress_from(&base, &patch, &expected).unwrap(), base);
}

#[test]
fn a_patch_gets_no_more_memory_than_its_chunk() {
    let zeros = vec![0; 16 * 1024 * 1024];
    let expected = Chunk { sha256: Digest::of(&zeros), size: u32::MAX };
    let bomb = compress_from(&[0; 1000], &zeros, 19).unwrap();
    assert!(matches!(decompress_from(&[0; 1000], &bomb, &expected), Err(BadChunk::Zstd { .. })));
    let long = vec![0; MAX_COMPRESSED_BYTES as usize + 1];
    assert!(matches!(decompress_from(&[], &long, &expected), Err(BadChunk::TooLong { .. })));
}

fn stretches() -> impl Strategy<Value = Vec<(char, u32)>> {
    proptest::collection::vec((proptest::char::range('a', 'h'), Just(64 * KIB)), 1..40)
}

proptest! {
    #[test]
    fn bases_lie_within_the_old_part(old in stretches(), new in stretches()) {
        let (old, new) = (image(&old), image(&new));
        for (chunk, base) in bases(&old, &new) {
            prop_assert!(!old.distinct_chunks().iter().any(|known| known.sha256 == chunk));
            prop_assert!((1..=MAX_BASE_BYTES).contains(&base.length));
            prop_assert!(base.offset + u64::from(base.length) <= old.part(base.part).unwrap().size_bytes);
        }
    }

    #[test]
    fn any_patch_is_applied_or_refused(base in proptest::collection::vec(any::<u8>(), 0..500), data in proptest::collection::vec(any::<u8>(), 0..500), size in any::<u32>()) {
        let expected = Chunk { sha256: Digest::of(b"nothing"), size };
        prop_assert!(decompress_from(&base, &data, &expected).is_err());
    }

    #[test]
    fn chunks_come_out_of_any_base(base in proptest::collection::vec(any::<u8>(), 0..5000), bytes in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let (chunk, bytes) = split(&bytes[..]).next().unwrap().unwrap();
        let patch = compress_from(&base, &bytes, 1).unwrap();
        prop_assert_eq!(decompress_from(&base, &patch, &chunk).unwrap(), bytes);
    }
}
