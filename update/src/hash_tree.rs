//! The dm-verity hash tree of a root: all of it follows from the root's bytes, but for two values that the manifest names. So a machine makes
//! it of the root that it has just written, and nothing of it need be sent.

mod blocks;

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use machine::verity::{BLOCK_BYTES, MAX_SALT_BYTES, Superblock};
use serde::{Deserialize, Serialize};

use crate::printable;

pub use blocks::TreeBlocks;

/// What a hash tree has that does not follow from its root. All else is as image-build has veritysetup make it: format 1, SHA-256, and blocks
/// of 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashTree {
    pub uuid: Uuid,
    pub salt: Salt,
}

/// Of a superblock. As text 32 lower-case hexadecimal digits in groups, as veritysetup takes and shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(pub [u8; 16]);

/// Stands before each block that is hashed. As text lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salt(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHashTree {
    #[error("uuid {0:?}; expected lower-case hexadecimal digits, 8-4-4-4-12 of them")]
    Uuid(String),
    #[error("salt {0:?}; expected lower-case hexadecimal digits, two for each of at most {MAX_SALT_BYTES} bytes")]
    Salt(String),
    #[error("root of {0} bytes; expected at least two whole blocks of {BLOCK_BYTES} bytes")]
    Root(u64),
}

impl HashTree {
    /// What a superblock says, so that the same tree can be made.
    pub fn of(superblock: Superblock) -> HashTree {
        HashTree { uuid: Uuid(superblock.uuid), salt: Salt(superblock.salt) }
    }

    /// Bytes of the tree of a root of this size.
    pub fn size_bytes(root_bytes: u64) -> Result<u64, BadHashTree> {
        Ok(blocks::size_bytes(data_blocks(root_bytes)?))
    }

    /// Makes the tree of what `root` yields. A root of 1 GiB has one of 8.1 MiB; memory stays at half a MiB.
    pub fn blocks<R: Read>(&self, root: R, root_bytes: u64) -> Result<TreeBlocks<R>, BadHashTree> {
        let data_blocks = data_blocks(root_bytes)?;
        Ok(TreeBlocks::new(root, &Superblock { uuid: self.uuid.0, data_blocks, salt: self.salt.0.clone() }))
    }
}

fn data_blocks(root_bytes: u64) -> Result<u64, BadHashTree> {
    let block = u64::from(BLOCK_BYTES);
    if !root_bytes.is_multiple_of(block) || root_bytes < 2 * block {
        return Err(BadHashTree::Root(root_bytes));
    }
    Ok(root_bytes / block)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = BadHashTree;

    fn from_str(text: &str) -> Result<Uuid, BadHashTree> {
        let mut uuid = Uuid([0; 16]);
        // One spelling for one uuid.
        match hex::decode_to_slice(text.replace('-', ""), &mut uuid.0) {
            Ok(()) if uuid.to_string() == text => Ok(uuid),
            _ => Err(BadHashTree::Uuid(printable::shorten(text))),
        }
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Salt {
    type Err = BadHashTree;

    fn from_str(text: &str) -> Result<Salt, BadHashTree> {
        let lower = text.len() <= 2 * MAX_SALT_BYTES && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode(text) {
            Ok(salt) if lower => Ok(Salt(salt)),
            _ => Err(BadHashTree::Salt(printable::shorten(text))),
        }
    }
}

impl TryFrom<String> for Uuid {
    type Error = BadHashTree;

    fn try_from(text: String) -> Result<Uuid, BadHashTree> {
        text.parse()
    }
}

impl TryFrom<String> for Salt {
    type Error = BadHashTree;

    fn try_from(text: String) -> Result<Salt, BadHashTree> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> String {
        uuid.to_string()
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> String {
        salt.to_string()
    }
}

#[cfg(test)]
mod tests;
