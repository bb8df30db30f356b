//! Snapshots of etcd as they leave the machine: encrypted with the cluster's key (`cluster.encryptionKey`). docs/etcd.md describes the format for
//! whoever has to open one without Corten.
//!
//! 23 bytes [`MAGIC`], 32 random bytes (salt), then chunks of 64 KiB (the last one may be shorter), each followed by its tag of 16 bytes:
//! ChaCha20-Poly1305 with the key HKDF-SHA-256(salt, encryptionKey, [`PURPOSE`]) and the nonce: 7 bytes 0, the chunk's number from 0 on (4 bytes,
//! big-endian), 1 for the last chunk and 0 for all others. So none can be left out, moved, or added.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machine::config::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

pub const MAGIC: &[u8; 23] = b"corten etcd snapshot 1\n";
const PURPOSE: &[u8] = b"corten etcd snapshot";
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;
const KEY_BYTES: usize = 32;
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the key is not 32 bytes in base64")]
    Key,
    #[error("it does not begin as an encrypted snapshot")]
    Foreign,
    #[error("it was encrypted with another key, or changed since")]
    Broken,
    #[error("its end is missing")]
    Short,
    #[error("it is too long")]
    Long,
    #[error("no random bytes are to be had")]
    Random,
}

/// Encrypts what passes.
#[derive(Debug)]
pub struct Sealer {
    chunks: Chunks,
}

/// Decrypts what passes.
#[derive(Debug)]
pub struct Opener {
    secret: [u8; KEY_BYTES],
    /// Until its head is there.
    head: Vec<u8>,
    chunks: Option<Chunks>,
}

#[derive(Debug)]
struct Chunks {
    key: LessSafeKey,
    number: u32,
    /// What is not a whole chunk yet, or may be the last one.
    rest: Vec<u8>,
}

struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl Sealer {
    /// With what the file begins with.
    pub fn new(secret: &Secret) -> Result<(Sealer, Vec<u8>), SealError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| SealError::Random)?;
        let head = [&MAGIC[..], &salt].concat();
        Ok((Sealer { chunks: Chunks::new(&key(secret)?, &salt)? }, head))
    }

    /// What follows of the file.
    pub fn seal(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.chunks.pass(bytes, CHUNK_BYTES, Chunks::seal)
    }

    pub fn finish(mut self) -> Result<Vec<u8>, SealError> {
        let rest = std::mem::take(&mut self.chunks.rest);
        self.chunks.seal(rest, true)
    }
}

impl Opener {
    pub fn new(secret: &Secret) -> Result<Opener, SealError> {
        Ok(Opener { secret: key(secret)?, head: Vec::new(), chunks: None })
    }

    /// What follows of the contents. They are the file's whole contents only once [`Opener::finish`] was well.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        if let Some(chunks) = &mut self.chunks {
            return chunks.pass(bytes, CHUNK_BYTES + TAG_BYTES, Chunks::open);
        }
        self.head.extend_from_slice(bytes);
        let Some((head, body)) = self.head.split_at_checked(HEAD_BYTES) else { return Ok(Vec::new()) };
        if !head.starts_with(MAGIC) {
            return Err(SealError::Foreign);
        }
        let mut chunks = Chunks::new(&self.secret, &head[MAGIC.len()..])?;
        let opened = chunks.pass(body, CHUNK_BYTES + TAG_BYTES, Chunks::open);
        self.chunks = Some(chunks);
        self.head = Vec::new();
        opened
    }

    pub fn finish(self) -> Result<Vec<u8>, SealError> {
        let Some(mut chunks) = self.chunks else { return Err(SealError::Short) };
        let rest = std::mem::take(&mut chunks.rest);
        // A chunk that is whole, but not the last, ends here where the last one is missing.
        chunks.open(rest, true).map_err(|_| SealError::Short)
    }
}

impl Chunks {
    fn new(secret: &[u8; KEY_BYTES], salt: &[u8]) -> Result<Chunks, SealError> {
        let mut key = [0; KEY_BYTES];
        let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
        derived.expand(&[PURPOSE], KeyBytes).and_then(|okm| okm.fill(&mut key)).map_err(|_| SealError::Key)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| SealError::Key)?;
        Ok(Chunks { key: LessSafeKey::new(key), number: 0, rest: Vec::new() })
    }

    /// Whole chunks behind which there is more.
    fn pass(
        &mut self,
        bytes: &[u8],
        length: usize,
        each: impl Fn(&mut Chunks, Vec<u8>, bool) -> Result<Vec<u8>, SealError>,
    ) -> Result<Vec<u8>, SealError> {
        self.rest.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while self.rest.len() > length {
            let chunk = self.rest.drain(..length).collect();
            passed.extend(each(self, chunk, false)?);
        }
        Ok(passed)
    }

    fn seal(&mut self, mut chunk: Vec<u8>, last: bool) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonce(last)?;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut chunk).map_err(|_| SealError::Broken)?;
        Ok(chunk)
    }

    fn open(&mut self, mut chunk: Vec<u8>, last: bool) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonce(last)?;
        let length = self.key.open_in_place(nonce, Aad::empty(), &mut chunk).map_err(|_| SealError::Broken)?.len();
        chunk.truncate(length);
        Ok(chunk)
    }

    fn nonce(&mut self, last: bool) -> Result<Nonce, SealError> {
        let mut nonce = [0; NONCE_LEN];
        nonce[7..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        self.number = self.number.checked_add(1).ok_or(SealError::Long)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn key(secret: &Secret) -> Result<[u8; KEY_BYTES], SealError> {
    let bytes = STANDARD.decode(secret.reveal().trim()).map_err(|_| SealError::Key)?;
    bytes.try_into().map_err(|_| SealError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(STANDARD.encode([byte; 32]))
    }

    fn sealed(contents: &[u8], piece: usize) -> Vec<u8> {
        let (mut sealer, mut file) = Sealer::new(&secret(1)).unwrap();
        for part in contents.chunks(piece) {
            file.extend(sealer.seal(part).unwrap());
        }
        file.extend(sealer.finish().unwrap());
        file
    }

    fn opened(file: &[u8], piece: usize, secret: &Secret) -> Result<Vec<u8>, SealError> {
        let mut opener = Opener::new(secret)?;
        let mut contents = Vec::new();
        for part in file.chunks(piece) {
            contents.extend(opener.open(part)?);
        }
        contents.extend(opener.finish()?);
        Ok(contents)
    }

    #[test]
    fn it_comes_back_as_it_went_in_whatever_pieces() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000] {
            let contents: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let file = sealed(&contents, 1000);
            assert_eq!(file.len(), HEAD_BYTES + length + TAG_BYTES * length.div_ceil(CHUNK_BYTES).max(1));
            for piece in [7, 65536, 1 << 20] {
                assert_eq!(opened(&file, piece, &secret(1)).as_deref(), Ok(&contents[..]), "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn whatever_is_changed_is_told() {
        let contents = vec![7; 3 * CHUNK_BYTES];
        let file = sealed(&contents, 1000);
        assert_eq!(opened(&file, 4096, &secret(2)), Err(SealError::Broken));
        assert_eq!(opened(b"SQLite format 3, and more than that, for it has to be long enough", 4096, &secret(1)), Err(SealError::Foreign));
        let one = CHUNK_BYTES + TAG_BYTES;
        assert_eq!(opened(&file[..HEAD_BYTES + 2 * one], 4096, &secret(1)), Err(SealError::Short), "a chunk is missing at the end");
        assert_eq!(opened(&file[..file.len() - 1], 4096, &secret(1)), Err(SealError::Short));
        assert_eq!(opened(&file[..10], 4096, &secret(1)), Err(SealError::Short));
        let without_first = [&file[..HEAD_BYTES], &file[HEAD_BYTES + one..]].concat();
        assert_eq!(opened(&without_first, 4096, &secret(1)), Err(SealError::Broken));
        let longer = [&file[..], b"more"].concat();
        assert!(opened(&longer, 4096, &secret(1)).is_err());
        assert_eq!(Sealer::new(&Secret::new("c2hvcnQ=")).err(), Some(SealError::Key));
    }
}
