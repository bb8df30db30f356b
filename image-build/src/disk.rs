//! The disk: a GPT with all partitions of [`machine::disk`], of which the ESP and slot A are filled.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gptman::{GPT, GPTPartitionEntry};
use machine::disk::Extent;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::digest;

/// Of the disks that images are for.
pub const SECTOR: u64 = 512;

/// Writes both copies of the table and the protective MBR. All ids follow from `seed`; first boot makes them unique.
pub fn write_table(disk: &mut File, extents: &[Extent], size: u64, seed: &str) -> Result<()> {
    let mut table = GPT::new_from(disk, SECTOR, digest_guid("disk", seed)).context("making the partition table")?;
    for (index, extent) in (1..).zip(extents) {
        let label = extent.partition.label();
        table[index] = GPTPartitionEntry {
            partition_type_guid: parse_guid(extent.partition.type_guid())?,
            unique_partition_guid: digest_guid(label, seed),
            starting_lba: extent.start / SECTOR,
            ending_lba: (extent.start + extent.size) / SECTOR - 1,
            attribute_bits: 0,
            partition_name: label.into(),
        };
    }
    table.write_into(disk).context("writing the partition table")?;
    GPT::write_protective_mbr_into(disk, SECTOR).context("writing the protective MBR")?;
    ensure!(disk.metadata()?.len() == size, "the disk changed its size");
    Ok(())
}

/// A GUID as the table stores it: its first three fields are little endian (UEFI 2.10, appendix A).
fn parse_guid(text: &str) -> Result<[u8; 16]> {
    let bytes = hex::decode(text.replace('-', "")).with_context(|| format!("GUID {text}"))?;
    let bytes: [u8; 16] = bytes.try_into().ok().with_context(|| format!("GUID {text}: expected 16 bytes"))?;
    Ok(mixed_endian(bytes))
}

fn digest_guid(purpose: &str, seed: &str) -> [u8; 16] {
    mixed_endian(digest::uuid(&format!("partition {purpose}"), seed))
}

fn mixed_endian(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// Copies a file to its place on the disk. Holes and blocks of zeros stay holes.
pub fn fill(disk: &File, extent: &Extent, from: &Path) -> Result<()> {
    let reading = || format!("reading {}", from.display());
    let source = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let length = source.metadata()?.len();
    ensure!(
        length <= extent.size,
        "{} has {} MiB, partition {} holds {} MiB",
        from.display(),
        length >> 20,
        extent.partition.label(),
        extent.size >> 20
    );
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        at = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            // No data behind this place.
            Err(Errno::NXIO) => return Ok(()),
            place => place.with_context(reading)?,
        };
        let read = source.read_at(&mut buffer, at).with_context(reading)?;
        for block in buffer[..read].chunks(4096) {
            if block.iter().any(|byte| *byte != 0) {
                disk.write_all_at(block, extent.start + at).context("writing the disk image")?;
            }
            at += block.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::disk::{self, Partition};

    #[test]
    fn the_table_reads_back() {
        let mut disk = tempfile::tempfile().unwrap();
        let size = disk::least_bytes(&Partition::ALL);
        let extents = disk::layout(&Partition::ALL, size, SECTOR).unwrap();
        disk.set_len(size).unwrap();
        write_table(&mut disk, &extents, size, "seed").unwrap();
        let table = GPT::read_from(&mut disk, SECTOR).unwrap();
        for (index, extent) in (1..).zip(&extents) {
            let entry = &table[index];
            assert_eq!(entry.partition_name.as_str(), extent.partition.label());
            assert_eq!((entry.starting_lba * SECTOR, (entry.ending_lba + 1) * SECTOR), (extent.start, extent.start + extent.size));
        }
        // EFI system partition, in the byte order of the disk.
        assert_eq!(hex::encode(table[1].partition_type_guid), "28732ac11ff8d211ba4b00a0c93ec93b");
    }

    #[test]
    fn refuses_content_larger_than_its_partition() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let extent = Extent { partition: Partition::RootA, start: 0, size: 2 << 20 };
        let error = fill(&tempfile::tempfile().unwrap(), &extent, file.path()).unwrap_err().to_string();
        assert!(error.contains("3 MiB, partition ROOT-A holds 2 MiB"), "{error}");
    }

    #[test]
    fn zeros_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(8 << 20).unwrap();
        let mut content = vec![0; 3 << 20];
        content[2 << 20] = 1;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        fill(&disk, &Extent { partition: Partition::Esp, start: 1 << 20, size: 4 << 20 }, file.path()).unwrap();
        let mut byte = [0];
        disk.read_exact_at(&mut byte, 3 << 20).unwrap();
        assert_eq!((byte, disk.metadata().unwrap().blocks()), ([1], 8));
    }
}
