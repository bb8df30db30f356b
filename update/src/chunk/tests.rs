use std::io::Read;

use proptest::prelude::*;

use super::*;

/// Bytes that anybody can make again: the high bytes of xorshift64*.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.max(1);
    let next = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..count).map(next).collect()
}

fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    split(bytes).map(|piece| piece.unwrap().0).collect()
}

/// Where chunks end must never change: machines with images of earlier releases would find none of their chunks again.
#[test]
fn chunks_end_where_they_always_did() {
    let sizes = |bytes: &[u8]| chunks(bytes).iter().map(|chunk| chunk.size).collect::<Vec<_>>();
    assert_eq!(
        sizes(&noise(1, 1024 * 1024)),
        [103877, 61865, 69954, 97674, 88159, 124821, 82218, 61350, 71686, 93354, 38528, 83650, 59824, 11616]
    );
    assert_eq!(sizes(&[0; 600_000]), [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 75_712], "nothing to cut at");
    assert_eq!(sizes(&[1]), [1]);
    assert!(sizes(&[]).is_empty());
}

#[test]
fn an_insertion_changes_the_chunks_around_it_only() {
    let old = noise(2, 4 * 1024 * 1024);
    let new = [&old[..1_000_000], b"inserted", &old[1_000_000..]].concat();
    let known = chunks(&old);
    let missing: Vec<Chunk> = chunks(&new).into_iter().filter(|chunk| !known.contains(chunk)).collect();
    assert!((1..=2).contains(&missing.len()), "{missing:?}");
}

/// Yields a few bytes at a time, as a pipe does.
struct Drips<'a>(&'a [u8]);

impl Read for Drips<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(977);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn how_bytes_arrive_does_not_matter() {
    let bytes = noise(3, 500_000);
    let dripped: Vec<Chunk> = split(Drips(&bytes)).map(|piece| piece.unwrap().0).collect();
    assert_eq!(dripped, chunks(&bytes));
}

#[test]
fn a_reader_that_fails_fails_the_split() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad sector"))
        }
    }
    assert_eq!(split(Broken).next().unwrap().unwrap_err().to_string(), "bad sector");
}

#[test]
fn bytes_that_cannot_be_compressed_fit_into_a_record() {
    let bytes = noise(4, MAX_CHUNK_BYTES as usize);
    for level in [1, 19, 22] {
        let data = compress(&bytes, level).unwrap();
        assert!(data.len() <= MAX_COMPRESSED_BYTES as usize, "level {level}: {} bytes", data.len());
    }
    assert!(zstd::zstd_safe::compress_bound(MAX_CHUNK_BYTES as usize) <= MAX_COMPRESSED_BYTES as usize);
}

#[test]
fn a_chunk_is_what_the_manifest_says_or_an_error() {
    let chunk = |bytes: &[u8]| Chunk { sha256: Digest::of(bytes), size: bytes.len() as u32 };
    let good = noise(5, 50_000);
    let data = compress(&good, 3).unwrap();
    assert_eq!(decompress(&data, &chunk(&good)).unwrap(), good);

    let other = decompress(&data, &Chunk { sha256: Digest::of(b"other"), ..chunk(&good) });
    assert!(matches!(other, Err(BadChunk::Digest { .. })), "{other:?}");
    let longer = decompress(&data, &Chunk { size: 50_001, ..chunk(&good) });
    assert!(matches!(longer, Err(BadChunk::Size { found: 50_000, expected: 50_001 })), "{longer:?}");
    let shorter = decompress(&data, &Chunk { size: 49_999, ..chunk(&good) });
    assert!(matches!(shorter, Err(BadChunk::Zstd { .. })), "{shorter:?}");
    let cut = decompress(&data[..data.len() - 1], &chunk(&good));
    assert!(matches!(cut, Err(BadChunk::Zstd { .. })), "{cut:?}");
    let long = decompress(&vec![0; MAX_COMPRESSED_BYTES as usize + 1], &chunk(&good));
    assert!(matches!(long, Err(BadChunk::TooLong { .. })), "{long:?}");
}

/// A few KiB that claim to become 64 MiB: with their size in the frame's head, and, as a stream has it, without.
#[test]
fn a_bomb_gets_no_memory() {
    let zeros = vec![0; 64 * 1024 * 1024];
    let expected = Chunk { sha256: Digest::of(&zeros), size: MAX_CHUNK_BYTES };
    for bomb in [zstd::bulk::compress(&zeros, 19).unwrap(), zstd::stream::encode_all(&zeros[..], 19).unwrap()] {
        assert!(bomb.len() <= MAX_COMPRESSED_BYTES as usize);
        let refused = decompress(&bomb, &expected);
        assert!(matches!(refused, Err(BadChunk::Zstd { .. })), "{refused:?}");
    }
    let claimed = decompress(&zstd::bulk::compress(&zeros, 19).unwrap(), &Chunk { size: u32::MAX, ..expected });
    assert!(claimed.is_err(), "a size beyond the limit gives no more room");
}

proptest! {
    #[test]
    fn any_bytes_are_decompressed_or_refused(data in proptest::collection::vec(any::<u8>(), 0..2000), size in 0..=u32::MAX) {
        let expected = Chunk { sha256: Digest::of(b""), size };
        if let Ok(bytes) = decompress(&data, &expected) {
            prop_assert_eq!(bytes, b"");
        }
    }

    #[test]
    fn chunks_make_up_what_was_cut(bytes in proptest::collection::vec(any::<u8>(), 0..5000), repeats in 1_usize..200) {
        let whole = bytes.repeat(repeats);
        let pieces: Vec<_> = split(&whole[..]).map(Result::unwrap).collect();
        prop_assert_eq!(&pieces.iter().flat_map(|(_, bytes)| bytes).copied().collect::<Vec<u8>>(), &whole);
        for (index, (chunk, bytes)) in pieces.iter().enumerate() {
            prop_assert_eq!((chunk.sha256, chunk.size as usize), (Digest::of(bytes), bytes.len()));
            let least = if index + 1 < pieces.len() { MIN_CHUNK_BYTES } else { 1 };
            prop_assert!((least..=MAX_CHUNK_BYTES).contains(&chunk.size));
            let data = compress(bytes, 1).unwrap();
            prop_assert_eq!(&decompress(&data, chunk).unwrap(), bytes);
        }
    }
}
