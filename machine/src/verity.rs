//! The superblock of a dm-verity hash tree: veritysetup's format, version 1, and of all that it can say only what image-build writes. init
//! reads it when it opens a root; who makes a tree writes it.

/// Of the root as well as of its tree.
pub const BLOCK_BYTES: u32 = 4096;
pub const SUPERBLOCK_BYTES: usize = 512;
/// A superblock has room for no more.
pub const MAX_SALT_BYTES: usize = 256;

const MAGIC: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
/// The salt stands before the block that is hashed (`DM_VERITY_HASH_TYPE` 1).
const HASH_TYPE: u32 = 1;
const ALGORITHM: &[u8] = b"sha256";
/// Where fields begin (struct verity_sb in cryptsetup's lib/verity/verity.c); numbers are little endian.
const UUID_AT: usize = 16;
const ALGORITHM_AT: usize = 32;
const ALGORITHM_BYTES: usize = 32;
const DATA_BLOCKS_AT: usize = 72;
const SALT_BYTES_AT: usize = 80;
const SALT_AT: usize = 88;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSuperblock {
    #[error("has no verity superblock")]
    Magic,
    #[error("has a verity superblock with {0}, which is not what image-build writes")]
    Unexpected(String),
}

/// What opening a root needs to know, and what a tree has that does not follow from its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    pub uuid: [u8; 16],
    /// At least 2: the hash of a single block would need no tree.
    pub data_blocks: u64,
    /// At most [`MAX_SALT_BYTES`].
    pub salt: Vec<u8>,
}

impl Superblock {
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Superblock, BadSuperblock> {
        let number = |at: usize, length: usize| {
            let bytes = bytes.get(at..at + length).unwrap_or_default();
            bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(BadSuperblock::Magic);
        }
        let algorithm = bytes.iter().skip(ALGORITHM_AT).take(ALGORITHM_BYTES).copied();
        let algorithm: Vec<u8> = algorithm.take_while(|byte| *byte != 0).collect();
        let shape = (number(8, 4), number(12, 4), algorithm.as_slice(), number(64, 4), number(68, 4));
        let block = u64::from(BLOCK_BYTES);
        if shape != (u64::from(VERSION), u64::from(HASH_TYPE), ALGORITHM, block, block) {
            let (version, kind, _, data, hash) = shape;
            let algorithm = String::from_utf8_lossy(&algorithm).into_owned();
            let text = format!("version {version}, hash type {kind}, {algorithm}, blocks of {data} and {hash} bytes");
            return Err(BadSuperblock::Unexpected(text));
        }
        let (data_blocks, salt_bytes) = (number(DATA_BLOCKS_AT, 8), number(SALT_BYTES_AT, 2) as usize);
        if data_blocks < 2 || salt_bytes > MAX_SALT_BYTES {
            return Err(BadSuperblock::Unexpected(format!("{data_blocks} data blocks, {salt_bytes} bytes of salt")));
        }
        let mut uuid = [0; 16];
        uuid.iter_mut().zip(bytes.iter().skip(UUID_AT)).for_each(|(to, from)| *to = *from);
        let salt = bytes.iter().skip(SALT_AT).take(salt_bytes).copied().collect();
        Ok(Superblock { uuid, data_blocks, salt })
    }

    /// As veritysetup writes it; of a longer salt than there is room for, the beginning.
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let salt = self.salt.get(..MAX_SALT_BYTES).unwrap_or(&self.salt);
        let fields: [(usize, &[u8]); 10] = [
            (0, MAGIC),
            (8, &VERSION.to_le_bytes()),
            (12, &HASH_TYPE.to_le_bytes()),
            (UUID_AT, &self.uuid),
            (ALGORITHM_AT, ALGORITHM),
            (64, &BLOCK_BYTES.to_le_bytes()),
            (68, &BLOCK_BYTES.to_le_bytes()),
            (DATA_BLOCKS_AT, &self.data_blocks.to_le_bytes()),
            (SALT_BYTES_AT, &(salt.len() as u16).to_le_bytes()),
            (SALT_AT, salt),
        ];
        for (at, field) in fields {
            bytes.iter_mut().skip(at).zip(field).for_each(|(to, from)| *to = *from);
        }
        bytes
    }

    /// Length of the verified device in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.data_blocks.saturating_mul(u64::from(BLOCK_BYTES) / 512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_superblocks_are_refused_with_what_they_have() {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::Magic));
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[32..38].copy_from_slice(b"sha512");
        let error = Superblock::parse(&bytes).expect_err("not ours").to_string();
        assert!(error.contains("sha512"), "{error}");
        let good = Superblock { uuid: [1; 16], data_blocks: 2, salt: vec![3; 32] }.to_bytes();
        let mut bytes = good;
        bytes[72] = 1;
        let error = Superblock::parse(&bytes).expect_err("no tree").to_string();
        assert!(error.contains("1 data blocks, 32 bytes of salt"), "{error}");
        let mut bytes = good;
        bytes[80..82].copy_from_slice(&257_u16.to_le_bytes());
        let error = Superblock::parse(&bytes).expect_err("no room").to_string();
        assert!(error.contains("2 data blocks, 257 bytes of salt"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            uuid in any::<[u8; 16]>(), data_blocks in 2..u64::MAX, salt in prop::collection::vec(any::<u8>(), 0..=MAX_SALT_BYTES),
        ) {
            let superblock = Superblock { uuid, data_blocks, salt };
            prop_assert_eq!(Superblock::parse(&superblock.to_bytes()), Ok(superblock));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), SUPERBLOCK_BYTES - 20), head in any::<bool>()) {
            let mut whole = [0; SUPERBLOCK_BYTES];
            if head {
                whole.copy_from_slice(&Superblock { uuid: [0; 16], data_blocks: 2, salt: Vec::new() }.to_bytes());
            }
            whole.iter_mut().skip(if head { DATA_BLOCKS_AT } else { 0 }).zip(bytes).for_each(|(to, from)| *to = from);
            if let Ok(superblock) = Superblock::parse(&whole) {
                prop_assert!(superblock.data_blocks >= 2 && superblock.salt.len() <= MAX_SALT_BYTES);
            }
        }
    }
}
