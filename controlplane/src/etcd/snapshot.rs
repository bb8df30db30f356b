//! What a snapshot of etcd's data ends with: `etcdctl snapshot save` writes the SHA-256 of all that is before it, and `etcdutl snapshot restore`
//! checks it.

use sha2::{Digest, Sha256};

pub const DIGEST_BYTES: usize = 32;

/// A snapshot as it passes: whether its last bytes are the SHA-256 of all before them.
#[derive(Debug, Default)]
pub struct Passing {
    digest: Sha256,
    /// The last bytes so far: they may be the digest.
    tail: Vec<u8>,
    pub bytes: u64,
}

impl Passing {
    pub fn pass(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.tail.extend_from_slice(piece);
        let known = self.tail.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(&self.tail[..known]);
        self.tail.drain(..known);
    }

    pub fn ends_whole(self) -> bool {
        self.tail.len() == DIGEST_BYTES && self.digest.finalize().as_slice() == self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_however_it_is_cut() {
        let whole = [b"pages".as_slice(), Sha256::digest("pages").as_slice()].concat();
        let ends_whole = |bytes: &[u8], piece: usize| {
            let mut passing = Passing::default();
            bytes.chunks(piece).for_each(|piece| passing.pass(piece));
            assert_eq!(passing.bytes, bytes.len() as u64);
            passing.ends_whole()
        };
        for piece in 1..=whole.len() {
            assert!(ends_whole(&whole, piece), "in pieces of {piece}");
            assert!(!ends_whole(&whole[1..], piece) && !ends_whole(&whole[..whole.len() - 1], piece), "in pieces of {piece}");
        }
        assert!(!ends_whole(&whole[..DIGEST_BYTES - 1], 7));
    }
}
