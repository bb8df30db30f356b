//! A compressed chunk of an upload. The first four bytes are the size that the manifest has for it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use update::{BadChunk, Chunk, Digest, MAX_CHUNK_BYTES, decompress};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, data)) = bytes.split_first_chunk() else { return };
    let mut expected = Chunk { sha256: Digest([0; 32]), size: u32::from_le_bytes(*size) };
    // Told the right digest, it is taken: the digest is all that was wrong.
    if let Err(BadChunk::Digest { found, .. }) = decompress(data, &expected) {
        expected.sha256 = found;
        let chunk = decompress(data, &expected).expect("its own digest");
        assert!(chunk.len() <= MAX_CHUNK_BYTES as usize);
    }
});
