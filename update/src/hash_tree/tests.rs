use std::io;
use std::path::Path;
use std::process::Command;

use machine::verity::SUPERBLOCK_BYTES;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn tree(salt: &str) -> HashTree {
    HashTree { uuid: UUID.parse().unwrap(), salt: salt.parse().unwrap() }
}

/// A root of so many blocks, no two of them alike.
fn root(blocks: u64) -> Vec<u8> {
    let block = |number: u64| number.to_le_bytes().repeat(BLOCK_BYTES as usize / 8);
    (1..=blocks).map(block).collect::<Vec<_>>().concat()
}

/// The whole tree and its root hash.
fn made(tree: &HashTree, root: &[u8]) -> (Vec<u8>, Digest) {
    let mut blocks = tree.blocks(root, root.len() as u64).unwrap();
    let mut bytes = vec![0xee; HashTree::size_bytes(root.len() as u64).unwrap() as usize];
    let mut told = 0;
    for block in &mut blocks {
        let (offset, block) = block.unwrap();
        bytes[offset as usize..][..block.len()].copy_from_slice(&block);
        told += block.len();
    }
    assert_eq!(told, bytes.len(), "each block once");
    (bytes, blocks.root_hash().unwrap())
}

/// What veritysetup makes is the reference.
fn of_veritysetup(directory: &Path, root: &[u8], salt: &str) -> (Vec<u8>, String) {
    let [data, hashes, hash] = ["data", "hashes", "hash"].map(|name| directory.join(name));
    std::fs::write(&data, root).unwrap();
    let _ = std::fs::remove_file(&hashes);
    let salt = if salt.is_empty() { "-" } else { salt };
    let mut command = Command::new("/usr/sbin/veritysetup");
    command.args(["format", "--uuid", UUID, "--salt", salt, "--root-hash-file"]).args([&hash, &data, &hashes]);
    let output = command.output().expect("veritysetup (Debian: cryptsetup-bin) runs");
    assert!(output.status.success(), "{output:?}");
    (std::fs::read(&hashes).unwrap(), std::fs::read_to_string(&hash).unwrap().trim().to_owned())
}

#[test]
fn trees_are_those_of_veritysetup() {
    let directory = tempfile::tempdir().unwrap();
    let long = "5a".repeat(MAX_SALT_BYTES);
    let fanout = 128;
    let usual = "00112233445566778899aabbccddeeff";
    // One level, two, three; each at its limits.
    let sizes = [2, 127, fanout, fanout + 1, 2 * fanout, fanout * fanout, fanout * fanout + 1].map(|blocks| (blocks, usual));
    for (blocks, salt) in sizes.into_iter().chain([(3, ""), (3, &long)]) {
        let root = root(blocks);
        let (expected, root_hash) = of_veritysetup(directory.path(), &root, salt);
        let (bytes, hash) = made(&tree(salt), &root);
        assert!(bytes == expected, "{blocks} blocks, salt {salt:?}");
        assert_eq!(hash.to_string(), root_hash, "{blocks} blocks, salt {salt:?}");
    }
}

#[test]
fn what_a_superblock_says_makes_the_same_tree() {
    let root = root(300);
    let (bytes, _) = made(&tree("abcdef"), &root);
    let head: [u8; SUPERBLOCK_BYTES] = bytes[..SUPERBLOCK_BYTES].try_into().unwrap();
    let superblock = Superblock::parse(&head).unwrap();
    assert_eq!(superblock.data_blocks, 300);
    assert_eq!(HashTree::of(superblock), tree("abcdef"));
}

#[test]
fn a_root_that_is_no_whole_blocks_has_no_tree() {
    for bytes in [0, 1, 4096, 8191, 8193, u64::MAX] {
        let error = HashTree::size_bytes(bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("root of {bytes} bytes; expected at least two whole blocks of 4096 bytes"));
        assert_eq!(tree("").blocks(io::empty(), bytes).unwrap_err(), error);
    }
    assert_eq!(HashTree::size_bytes(1 << 30).unwrap(), (1 + 1 + 16 + 2048) * 4096);
}

#[test]
fn a_root_that_ends_early_makes_no_tree() {
    let bytes = root(200);
    let mut blocks = tree("00").blocks(&bytes[..bytes.len() - 1], bytes.len() as u64).unwrap();
    // The superblock, and the digests of the first 128 blocks.
    assert!(blocks.by_ref().take(2).all(|block| block.is_ok()));
    assert_eq!(blocks.next().unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(blocks.next().is_none() && blocks.root_hash().is_none());
}

#[test]
fn a_uuid_has_one_spelling() {
    assert_eq!(UUID.parse::<Uuid>().unwrap().to_string(), UUID);
    let upper = UUID.to_uppercase();
    let plain = UUID.replace('-', "");
    for bad in ["", "0", &upper, &plain, &UUID[1..], "----0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdeg"] {
        let error = bad.parse::<Uuid>().unwrap_err().to_string();
        assert_eq!(error, format!("uuid {bad:?}; expected lower-case hexadecimal digits, 8-4-4-4-12 of them"));
    }
}

#[test]
fn a_salt_is_at_most_256_bytes() {
    let long = "00".repeat(257);
    for bad in ["0", "0g", "AB", "-", &long] {
        let error = bad.parse::<Salt>().unwrap_err().to_string();
        assert!(error.starts_with("salt \"") && error.contains("two for each of at most 256 bytes"), "{error}");
    }
    assert_eq!("".parse::<Salt>().unwrap().to_string(), "");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,40}", digits in "[0-9a-f-]{30,40}") {
        for text in [text, digits] {
            if let Ok(uuid) = text.parse::<Uuid>() {
                prop_assert_eq!(uuid.to_string(), text.clone());
            }
            if let Ok(salt) = text.parse::<Salt>() {
                prop_assert_eq!(salt.to_string(), text);
            }
        }
    }
}
