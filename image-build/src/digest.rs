//! SHA-256 of bytes, files and trees, and what is derived from them where others would roll dice: an image has no random part.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

pub fn bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn file(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    feed(&mut hash, path)?;
    Ok(hex::encode(hash.finalize()))
}

fn feed(hash: &mut Sha256, path: &Path) -> Result<()> {
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(reading),
        }
    }
}

/// Digest of a directory tree: names, kinds, executable bits and content.
pub fn tree(directory: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    feed_tree(&mut hash, directory)?;
    Ok(hex::encode(hash.finalize()))
}

fn feed_tree(hash: &mut Sha256, directory: &Path) -> Result<()> {
    let reading = || format!("reading {}", directory.display());
    let mut entries = fs::read_dir(directory).with_context(reading)?.collect::<io::Result<Vec<_>>>().with_context(reading)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let metadata = entry.metadata().with_context(reading)?;
        hash.update(name.as_encoded_bytes());
        if metadata.is_dir() {
            hash.update(b"\0directory\0");
            feed_tree(hash, &path)?;
            hash.update(b"\0end\0");
        } else if metadata.is_symlink() {
            hash.update(b"\0link\0");
            hash.update(fs::read_link(&path).with_context(reading)?.as_os_str().as_encoded_bytes());
        } else {
            hash.update(format!("\0file {} {}\0", metadata.permissions().mode() & 0o777, metadata.len()));
            feed(hash, &path)?;
        }
    }
    Ok(())
}

/// 32 bytes for a purpose.
pub fn derive(purpose: &str, seed: &str) -> [u8; 32] {
    Sha256::digest(format!("corten image\0{purpose}\0{seed}")).into()
}

/// A UUID of version 8 (RFC 9562: by a rule of one's own) for a purpose.
pub fn uuid(purpose: &str, seed: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&derive(purpose, seed)[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// As text: `01234567-89ab-8cde-8f01-23456789abcd`.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trees_digest_sees_names_modes_links_and_content() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut seen = std::collections::BTreeSet::new();
        let mut changed = |what: &str| assert!(seen.insert(tree(root).unwrap()), "{what}");
        fs::create_dir(root.join("a")).unwrap();
        changed("directory");
        fs::write(root.join("a/b"), "x").unwrap();
        changed("file");
        fs::write(root.join("a/b"), "y").unwrap();
        changed("content");
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("mode");
        fs::rename(root.join("a/b"), root.join("b")).unwrap();
        changed("place");
        std::os::unix::fs::symlink("b", root.join("c")).unwrap();
        changed("link");
    }

    #[test]
    fn derived_uuids_are_version_8_and_differ_by_purpose() {
        let text = uuid_text(uuid("erofs", "seed"));
        assert_eq!((&text[14..15], text.len()), ("8", 36));
        assert_ne!(uuid("erofs", "seed"), uuid("verity", "seed"));
    }
}
