//! The footer of a fixed VHD ("Virtual Hard Disk Image Format Specification" 1.0): qemu-img writes the current time and a random id into
//! it. Both are replaced, so that the same disk gives the same file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const FOOTER: usize = 512;
const COOKIE: &[u8] = b"conectix";
const TIME: usize = 24;
const CHECKSUM: usize = 64;
const ID: usize = 68;
/// 2000-01-01 00:00:00 UTC, from which a VHD counts its seconds.
const EPOCH: u64 = 946_684_800;

/// Gives the file this date (seconds since the Unix epoch) and id.
pub fn settle(path: &Path, date: u64, id: [u8; 16]) -> Result<()> {
    let settling = || format!("settling {}", path.display());
    let file = File::options().read(true).write(true).open(path).with_context(settling)?;
    let length = file.metadata().with_context(settling)?.len();
    let at = length.checked_sub(FOOTER as u64).with_context(|| format!("{}: too short for a VHD", path.display()))?;
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, at).with_context(settling)?;
    ensure!(footer.starts_with(COOKIE), "{}: no footer of a VHD at its end", path.display());
    rewrite(&mut footer, u32::try_from(date.saturating_sub(EPOCH)).context("date after 2136")?, id);
    file.write_all_at(&footer, at).with_context(settling)
}

fn rewrite(footer: &mut [u8; FOOTER], time: u32, id: [u8; 16]) {
    footer[TIME..TIME + 4].copy_from_slice(&time.to_be_bytes());
    footer[ID..ID + 16].copy_from_slice(&id);
    footer[CHECKSUM..CHECKSUM + 4].fill(0);
    // The complement of the sum of all bytes, itself left out.
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[CHECKSUM..CHECKSUM + 4].copy_from_slice(&(!sum).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem;

    #[test]
    fn two_copies_of_a_disk_are_one_and_readable() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk.raw");
        let mut content = vec![0; 4 << 20];
        content[1 << 20] = 7;
        std::fs::write(&disk, &content).unwrap();
        let copies = ["first.vhd", "second.vhd"].map(|name| directory.path().join(name));
        for copy in &copies {
            filesystem::vhd(&disk, copy, 1_700_000_000, "seed").unwrap();
        }
        let bytes = std::fs::read(&copies[0]).unwrap();
        assert_eq!(bytes, std::fs::read(&copies[1]).unwrap());
        // Azure: a whole number of mebibytes, and the footer.
        assert_eq!(bytes.len(), content.len() + FOOTER);
        assert!(bytes[..content.len()] == content);
        let printed = crate::tools::QEMU_IMG.run(["info".as_ref(), "-f".as_ref(), "vpc".as_ref(), copies[0].as_os_str()]).unwrap();
        assert!(printed.contains("virtual size: 4 MiB"), "{printed}");
    }

    #[test]
    fn what_is_no_vhd_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1; 1024]).unwrap();
        let error = settle(file.path(), 0, [0; 16]).unwrap_err().to_string();
        assert!(error.contains("no footer of a VHD"), "{error}");
        assert_eq!(std::fs::read(file.path()).unwrap(), [1; 1024]);
    }
}
