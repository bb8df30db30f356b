//! Whether a UKI is whole and belongs to a root: the firmware cannot say so before it is too late. An image that it cannot load leaves the
//! machine at its prompt.

use std::fs::File;
use std::path::Path;

use object::read::pe::PeFile64;
use object::{LittleEndian, Object, ObjectSection, ReadCache, pe};

#[derive(Debug, thiserror::Error)]
pub enum BadUki {
    #[error("opening {path}")]
    Open {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the UKI is no program for UEFI")]
    Parse(#[source] object::Error),
    #[error("the UKI is cut short: its section {section} ends at byte {end} of {length}")]
    Short { section: String, end: u64, length: u64 },
    #[error("the UKI is cut short: its signature ends at byte {end} of {length}")]
    Signature { end: u64, length: u64 },
    #[error("the UKI has no section {0}")]
    Missing(&'static str),
    #[error("the UKI's command line boots another root: it has {found:?}; expected corten.roothash={expected}")]
    OtherRoot { found: String, expected: String },
}

/// What the stub needs, besides its own code (UAPI Group Specification "Unified Kernel Image").
const SECTIONS: [&str; 3] = [".cmdline", ".initrd", ".linux"];

/// Reads the headers and the command line; nothing else of the file comes into memory.
pub fn check(path: &Path, root_hash: &str) -> Result<(), BadUki> {
    let open = |source| BadUki::Open { path: path.display().to_string(), source };
    let file = File::open(path).map_err(open)?;
    let length = file.metadata().map_err(open)?.len();
    let cache = ReadCache::new(file);
    let image = PeFile64::parse(&cache).map_err(BadUki::Parse)?;
    for section in image.sections() {
        let (start, size) = section.file_range().unwrap_or_default();
        let end = start.saturating_add(size);
        if end > length {
            return Err(BadUki::Short { section: section.name().unwrap_or("?").to_owned(), end, length });
        }
    }
    // Behind the sections; its address is a place in the file.
    if let Some(table) = image.data_directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY) {
        let end = u64::from(table.virtual_address.get(LittleEndian)) + u64::from(table.size.get(LittleEndian));
        if end > length {
            return Err(BadUki::Signature { end, length });
        }
    }
    if let Some(missing) = SECTIONS.into_iter().find(|name| image.section_by_name(name).is_none()) {
        return Err(BadUki::Missing(missing));
    }
    let section = image.section_by_name(".cmdline").ok_or(BadUki::Missing(".cmdline"))?;
    let line = String::from_utf8_lossy(section.data().map_err(BadUki::Parse)?).into_owned();
    let line = line.trim_end_matches('\0').trim();
    let wanted = format!("corten.roothash={root_hash}");
    if line.split_whitespace().any(|word| word == wanted) {
        return Ok(());
    }
    Err(BadUki::OtherRoot { found: line.to_owned(), expected: root_hash.to_owned() })
}

/// Whether somebody signed it for Secure Boot (PE format, "The attribute certificate table"). Whose signatures count, the firmware knows.
pub fn is_signed(path: &Path) -> Result<bool, BadUki> {
    let open = |source| BadUki::Open { path: path.display().to_string(), source };
    let cache = ReadCache::new(File::open(path).map_err(open)?);
    let image = PeFile64::parse(&cache).map_err(BadUki::Parse)?;
    let table = image.data_directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY);
    Ok(table.is_some_and(|table| table.size.get(LittleEndian) > 0))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::uki;
    use super::*;

    fn checked(bytes: &[u8], root_hash: &str) -> Result<(), BadUki> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.efi");
        std::fs::write(&path, bytes).unwrap();
        check(&path, root_hash)
    }

    #[test]
    fn cases() {
        let hash = "ab".repeat(32);
        let good = uki(&format!("quiet corten.roothash={hash} panic=10"), b"kernel");
        checked(&good, &hash).unwrap();
        assert!(matches!(checked(&good, &"cd".repeat(32)), Err(BadUki::OtherRoot { .. })));
        assert!(matches!(checked(&uki("quiet", b"kernel"), &hash), Err(BadUki::OtherRoot { .. })));
        assert!(matches!(checked(&good[..good.len() - 513], &hash), Err(BadUki::Short { .. })));
        assert!(matches!(checked(b"#!/bin/sh", &hash), Err(BadUki::Parse(_))));
        assert!(matches!(checked(&[], &hash), Err(BadUki::Parse(_))));
        for length in 0..good.len() - 512 {
            assert!(checked(&good[..length], &hash).is_err(), "cut after {length} bytes");
        }
    }

    #[test]
    fn a_signature_is_seen_and_has_to_be_whole() {
        let hash = "ab".repeat(32);
        let mut signed = uki(&format!("corten.roothash={hash}"), b"kernel");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.efi");
        std::fs::write(&path, &signed).unwrap();
        assert!(!is_signed(&path).unwrap());
        // The fifth data directory: place and size. The directories begin at byte 112 of the optional header, which begins at 88.
        let place = signed.len() as u32;
        signed[88 + 112 + 32..][..4].copy_from_slice(&place.to_le_bytes());
        signed[88 + 112 + 36..][..4].copy_from_slice(&16_u32.to_le_bytes());
        signed.extend([0; 16]);
        std::fs::write(&path, &signed).unwrap();
        assert!(is_signed(&path).unwrap());
        checked(&signed, &hash).unwrap();
        assert!(matches!(checked(&signed[..signed.len() - 1], &hash), Err(BadUki::Signature { .. })));
    }
}
