//! A file as a value: what render steps return and apply steps write.

use std::fmt;
use std::path::PathBuf;

use crate::account::Account;

/// One file, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    /// Permission bits, such as 0o600.
    pub mode: u32,
    /// Owner and group.
    pub account: Account,
    pub contents: Vec<u8>,
}

impl fmt::Debug for File {
    /// Without the contents: they may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({} {:04o} {} {} bytes)", self.path.display(), self.mode, self.account.name(), self.contents.len())
    }
}

/// A figure that changes when any path, mode, owner or content does; the order of the files counts. It tells versions of one's own files
/// apart (64-bit FNV-1a) and is no protection against somebody who forges them.
pub fn digest<'a>(files: impl IntoIterator<Item = &'a File>) -> String {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for file in files {
        hash.field(file.path.as_os_str().as_encoded_bytes());
        hash.field(&file.mode.to_le_bytes());
        hash.field(&file.account.id().to_le_bytes());
        hash.field(&file.contents);
    }
    format!("{:016x}", hash.0)
}

struct Fnv(u64);

impl Fnv {
    /// The length goes first, so that no two lists of fields run into each other.
    fn field(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, contents: &str) -> File {
        File { path: path.into(), mode: 0o644, account: Account::Root, contents: contents.into() }
    }

    #[test]
    fn digest_sees_every_part() {
        let one = file("/etc/a", "text");
        let digest_of_one = digest([&one]);
        assert_eq!(digest_of_one, digest([&one.clone()]));
        let others = [
            file("/etc/b", "text"),
            file("/etc/a", "texT"),
            File { mode: 0o600, ..one.clone() },
            File { account: Account::Etcd, ..one.clone() },
        ];
        for other in &others {
            assert_ne!(digest([other]), digest_of_one, "{other:?}");
        }
        assert_ne!(digest([&file("/a", "b"), &file("/c", "d")]), digest([&file("/c", "d"), &file("/a", "b")]));
    }

    #[test]
    fn debug_hides_contents() {
        assert_eq!(format!("{:?}", file("/etc/a", "secret")), "File(/etc/a 0644 root 6 bytes)");
    }
}
