//! Which slot, or which pair of files, carries the root hash of the command line, by its dm-verity superblock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use machine::Root;
use machine::disk::{Partition, Slot};
use machine::verity::{BLOCK_BYTES, BadSuperblock, SUPERBLOCK_BYTES, Superblock};
use sha2::{Digest, Sha256};

use crate::block::{self, Node};
use crate::cmdline::hex;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no slot holds the root hash {wanted}: {}", .reasons.join("; "))]
    NoSlot { wanted: String, reasons: Vec<String> },
    #[error("partition {0} is gone")]
    Gone(&'static str),
    #[error("read the number of the device {0}")]
    Number(String, #[source] io::Error),
}

/// Why a slot or a pair of files is not the one.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("has no partition {0}")]
    NoPartition(&'static str),
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("{0}")]
    Superblock(#[from] BadSuperblock),
    #[error("has the root hash {0}")]
    OtherHash(String),
    #[error("has {found} bytes; its hash tree is that of {expected}")]
    Short { found: u64, expected: u64 },
}

/// The root hash: that of the tree's top block, which comes first behind the superblock's block.
fn root_hash(superblock: &Superblock, top: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&superblock.salt).chain_update(top).finalize().into()
}

/// The parameters of the kernel's target (Documentation/admin-guide/device-mapper/verity.rst). Devices are `major:minor`.
pub fn table(superblock: &Superblock, data: &str, hashes: &str, root_hash: &[u8; 32]) -> String {
    let salt = if superblock.salt.is_empty() { "-".to_owned() } else { hex(&superblock.salt) };
    format!("1 {data} {hashes} {BLOCK_BYTES} {BLOCK_BYTES} {} 1 sha256 {} {salt}", superblock.data_blocks, hex(root_hash))
}

/// The slot whose hash tree ends in the root hash; where both do, the one that the boot loader's entry names.
pub fn find(nodes: &[Node], disk: &str, wanted: &[u8; 32], entry: Option<&str>) -> Result<(Slot, Superblock), Error> {
    let mut fits = Vec::new();
    let mut reasons = Vec::new();
    for slot in Slot::ALL {
        match look(nodes, disk, slot, wanted) {
            Ok(superblock) => fits.push((slot, superblock)),
            Err(unfit) => reasons.push(format!("slot {} {unfit}", slot.name())),
        }
    }
    let named = fits.iter().position(|(slot, _)| entry.is_some_and(|entry| names(entry, *slot)));
    if fits.is_empty() {
        return Err(Error::NoSlot { wanted: hex(wanted), reasons });
    }
    Ok(fits.swap_remove(named.unwrap_or(0)))
}

/// The device numbers of a slot's root and hash tree.
pub fn numbers(root: &Root, nodes: &[Node], disk: &str, slot: Slot) -> Result<(String, String), Error> {
    let number = |partition: Partition| {
        let node = block::partition(nodes, disk, partition).ok_or(Error::Gone(partition.label()))?;
        block::number(root, &node.name).map_err(|source| Error::Number(node.name.clone(), source))
    };
    Ok((number(slot.root())?, number(slot.verity())?))
}

/// The superblock of a root and its hash tree that lie in files, if they are those of the root hash. The error says which file is not.
pub fn of_image(image: &Path, tree: &Path, wanted: &[u8; 32]) -> Result<Superblock, (PathBuf, Unfit)> {
    let (superblock, hash) = read(tree).map_err(|unfit| (tree.to_owned(), unfit))?;
    if hash != *wanted {
        return Err((tree.to_owned(), Unfit::OtherHash(hex(&hash))));
    }
    let expected = superblock.sectors().saturating_mul(512);
    match fs::metadata(image) {
        Ok(metadata) if metadata.len() < expected => Err((image.to_owned(), Unfit::Short { found: metadata.len(), expected })),
        Ok(_) => Ok(superblock),
        Err(error) => Err((image.to_owned(), error.into())),
    }
}

/// Whether an entry's file name, counters included, is that of a slot: `corten-b+2-1.conf`.
fn names(entry: &str, slot: Slot) -> bool {
    let rest = entry.strip_prefix("corten-").and_then(|rest| rest.strip_prefix(slot.name()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+']))
}

fn look(nodes: &[Node], disk: &str, slot: Slot, wanted: &[u8; 32]) -> Result<Superblock, Unfit> {
    let there = |partition: Partition| block::partition(nodes, disk, partition).ok_or(Unfit::NoPartition(partition.label()));
    there(slot.root())?;
    let (superblock, hash) = read(&there(slot.verity())?.device())?;
    if hash == *wanted { Ok(superblock) } else { Err(Unfit::OtherHash(hex(&hash))) }
}

fn read(path: &Path) -> Result<(Superblock, [u8; 32]), Unfit> {
    let file = File::open(path)?;
    let mut head = [0; SUPERBLOCK_BYTES];
    file.read_exact_at(&mut head, 0)?;
    let superblock = Superblock::parse(&head)?;
    let mut top = [0; BLOCK_BYTES as usize];
    file.read_exact_at(&mut top, u64::from(BLOCK_BYTES))?;
    let hash = root_hash(&superblock, &top);
    Ok((superblock, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What veritysetup says of the tree that it made itself is the reference.
    #[test]
    fn tree_of_veritysetup_is_read() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (data, tree) = (directory.path().join("data"), directory.path().join("tree"));
        // Enough blocks for two levels of hashes.
        let content: Vec<u8> = (0..300_u32).flat_map(|block| [block as u8; 4096]).collect();
        std::fs::write(&data, content).expect("write");
        for salt in ["-", "00112233445566778899aabbccddeeff"] {
            let output = Command::new("veritysetup")
                .args(["format", "--salt", salt, "--root-hash-file"])
                .arg(directory.path().join("hash"))
                .args([&data, &tree])
                .output()
                .expect("veritysetup (Debian: cryptsetup-bin) runs");
            assert!(output.status.success(), "{output:?}");
            let expected = std::fs::read_to_string(directory.path().join("hash")).expect("read");

            let (superblock, hash) = read(&tree).expect("reads");

            assert_eq!(hex(&hash), expected.trim());
            assert_eq!((superblock.data_blocks, superblock.sectors()), (300, 2400));
            assert_eq!(hex(&superblock.salt), salt.trim_start_matches('-'));
            let table = table(&superblock, "254:2", "254:3", &hash);
            assert_eq!(table, format!("1 254:2 254:3 4096 4096 300 1 sha256 {} {salt}", expected.trim()));

            assert_eq!(of_image(&data, &tree, &hash).expect("is the one"), superblock);
            let (path, reason) = of_image(&data, &tree, &[0; 32]).expect_err("other hash");
            assert_eq!((path, reason.to_string()), (tree.clone(), format!("has the root hash {}", expected.trim())));
            let short = directory.path().join("short");
            std::fs::write(&short, [0; 4096]).expect("write");
            let (_, reason) = of_image(&short, &tree, &hash).expect_err("cut short");
            assert_eq!(reason.to_string(), "has 4096 bytes; its hash tree is that of 1228800");
        }
    }

    #[test]
    fn entry_names_a_slot_with_or_without_counters() {
        for entry in ["corten-b.conf", "corten-b+3.conf", "corten-b+0-3.conf", "corten-b"] {
            assert!(names(entry, Slot::B) && !names(entry, Slot::A), "{entry}");
        }
        assert!(!names("corten-beta.conf", Slot::B));
    }

    #[test]
    fn no_slot_says_why_for_each() {
        let error = find(&[], "vda", &[0; 32], None).expect_err("nothing there").to_string();
        assert!(error.contains("slot a has no partition ROOT-A") && error.contains("slot b has no partition ROOT-B"), "{error}");
    }
}
