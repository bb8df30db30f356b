//! A chunk of an upload, whole or as a patch. The first four bytes are the size that the manifest has for it, the next two the length of
//! the base that follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use update::{BadChunk, Chunk, Digest, MAX_CHUNK_BYTES, decompress_from};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, rest)) = bytes.split_first_chunk() else { return };
    let Some((length, rest)) = rest.split_first_chunk() else { return };
    let (base, data) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let mut expected = Chunk { sha256: Digest([0; 32]), size: u32::from_le_bytes(*size) };
    // Told the right digest, it is taken: the digest is all that was wrong.
    if let Err(BadChunk::Digest { found, .. }) = decompress_from(base, data, &expected) {
        expected.sha256 = found;
        let chunk = decompress_from(base, data, &expected).expect("its own digest");
        assert!(chunk.len() <= MAX_CHUNK_BYTES as usize);
    }
});
