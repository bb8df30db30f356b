//! The table of a disk that an installation lays out.

use gptman::{GPTHeader, GPTPartitionEntry};
use machine::disk::{ALIGNMENT_BYTES, Extent, INSTALLING_MARK, INSTALLING_MARK_AT, TABLE_ENTRIES};

use super::plan::random_guid;
use super::table::{DiskWrite, Table};
use super::{Error, guid};

/// A table with these partitions, each GUID a random one.
pub fn table(
    extents: &[Extent],
    disk_sectors: u64,
    sector_size: u64,
    mut random: impl FnMut() -> Result<[u8; 16], Error>,
) -> Result<Table, Error> {
    let mut entries = vec![GPTPartitionEntry::empty(); TABLE_ENTRIES as usize];
    for (entry, extent) in entries.iter_mut().zip(extents) {
        let kind = extent.partition.type_guid();
        *entry = GPTPartitionEntry {
            partition_type_guid: guid::bytes(kind).ok_or(Error::Type(kind))?,
            unique_partition_guid: random_guid(random()?),
            starting_lba: extent.start / sector_size,
            ending_lba: (extent.start + extent.size) / sector_size - 1,
            attribute_bits: 0,
            partition_name: extent.partition.label().into(),
        };
    }
    let header = GPTHeader {
        signature: *b"EFI PART",
        revision: [0, 0, 1, 0],
        header_size: 92,
        crc32_checksum: 0,
        reserved: [0; 4],
        primary_lba: 1,
        backup_lba: 0,
        first_usable_lba: 0,
        last_usable_lba: 0,
        disk_guid: random_guid(random()?),
        partition_entry_lba: 2,
        number_of_partition_entries: TABLE_ENTRIES as u32,
        size_of_partition_entry: 128,
        partition_entry_array_crc32: 0,
    };
    let mut table = Table { sector_size, header, entries };
    table.header.first_usable_lba = 2 + table.array_sectors();
    table.stretch(disk_sectors);
    Ok(table)
}

/// The writes that make a disk hold nothing but this table: what was there is gone first, and where each partition begins nothing can be
/// taken for a file system. From the first one on the disk holds the mark of an installation, which whoever completes it takes away.
pub fn writes(table: &Table, extents: &[Extent], disk_sectors: u64) -> Vec<DiskWrite> {
    let zeros = |at: u64, length: u64| DiskWrite::Bytes { at, bytes: vec![0; length as usize] };
    let disk_bytes = disk_sectors * table.sector_size;
    let mut head = vec![0; ALIGNMENT_BYTES as usize];
    let mark = INSTALLING_MARK_AT as usize..INSTALLING_MARK_AT as usize + INSTALLING_MARK.len();
    if let Some(place) = head.get_mut(mark) {
        place.copy_from_slice(INSTALLING_MARK);
    }
    let mut writes = vec![DiskWrite::Bytes { at: 0, bytes: head }, DiskWrite::Sync];
    writes.push(zeros(disk_bytes - ALIGNMENT_BYTES, ALIGNMENT_BYTES));
    writes.extend(extents.iter().map(|extent| zeros(extent.start, ALIGNMENT_BYTES)));
    writes.push(DiskWrite::Sync);
    writes.extend(table.writes());
    writes.extend([DiskWrite::Bytes { at: 0, bytes: protective_mbr(disk_sectors) }, DiskWrite::Sync]);
    writes
}

/// The first 512 bytes, which tell old programs that the disk is taken (UEFI 2.10, 5.2.3).
fn protective_mbr(disk_sectors: u64) -> Vec<u8> {
    let sectors = u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX);
    let mut bytes = vec![0; 446];
    // Not active; from sector 1, which is head 0, sector 2 of cylinder 0; type 0xee.
    bytes.extend_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    bytes.extend_from_slice(&sectors.to_le_bytes());
    bytes.resize(510, 0);
    bytes.extend_from_slice(&[0x55, 0xaa]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::content::{self, Content};
    use super::super::table;
    use super::*;
    use gptman::GPT;
    use machine::disk::{self, Partition};
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::FileExt;

    const WORKER: [Partition; 4] = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];

    fn counter() -> impl FnMut() -> Result<[u8; 16], Error> {
        let mut number = 100;
        move || {
            number += 1;
            Ok([number; 16])
        }
    }

    /// A sparse disk, and what lays it out.
    fn blank(sector: u64, spare: u64) -> (File, Table, Vec<Extent>, u64) {
        let size = disk::least_bytes(&WORKER) + spare;
        let file = tempfile::tempfile().expect("disk");
        file.set_len(size).expect("size");
        let extents = disk::layout(&WORKER, size, sector).expect("large enough");
        let table = super::table(&extents, size / sector, sector, counter()).expect("table");
        (file, table, extents, size / sector)
    }

    fn carry_out(disk: &File, write: &DiskWrite, bytes_that_arrive: usize) {
        if let DiskWrite::Bytes { at, bytes } = write {
            disk.write_all_at(&bytes[..bytes_that_arrive.min(bytes.len())], *at).expect("write");
        }
    }

    #[test]
    fn fresh_disk_is_whole_unique_and_full() {
        for (sector, spare) in [(512, 0), (512, 5 << 30), (4096, 0), (4096, (3 << 30) + 4096)] {
            let (mut disk, table, extents, sectors) = blank(sector, spare);
            for write in writes(&table, &extents, sectors) {
                carry_out(&disk, &write, usize::MAX);
            }
            let seen = table::read(&mut disk, sector).expect("readable");
            assert!(seen.whole, "{sector}");
            assert_eq!(super::super::plan::fix(&seen, || [9; 16]), None, "{sector}: first boot has nothing to change");
            let theirs = GPT::find_from(&mut disk).expect("the library reads it");
            assert_eq!((theirs.sector_size, theirs.header.disk_guid), (sector, seen.table.header.disk_guid));
            for extent in &extents {
                assert_eq!(seen.table.range(extent.partition), Some((extent.start, extent.size)));
                assert!(!seen.table.is_marked(extent.partition));
            }
            let mut guids: Vec<_> = seen.table.entries.iter().filter(|e| e.is_used()).map(|e| e.unique_partition_guid).collect();
            guids.dedup();
            assert_eq!(guids.len(), WORKER.len());
            let mut mbr = [0; 512];
            disk.read_exact_at(&mut mbr, 0).expect("read");
            let mut library = std::io::Cursor::new(vec![0; 512]);
            GPT::write_protective_mbr_into(&mut OfSize(&mut library, sectors * sector), sector).expect("write");
            assert_eq!(mbr.as_slice(), library.into_inner());
        }
    }

    /// Says that it has another size.
    struct OfSize<'a>(&'a mut std::io::Cursor<Vec<u8>>, u64);
    impl Write for OfSize<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Seek for OfSize<'_> {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            if let SeekFrom::End(0) = to { Ok(self.1) } else { self.0.seek(to) }
        }
    }

    /// Whatever a power cut leaves, the installation can be begun anew without leave to wipe the disk. A sector arrives whole or not at all.
    #[test]
    fn power_cut_at_any_write_leaves_a_disk_to_begin_anew_with() {
        let writes = {
            let (_, table, extents, sectors) = blank(512, 0);
            writes(&table, &extents, sectors)
        };
        for cut in 0..writes.len() {
            let DiskWrite::Bytes { bytes, .. } = &writes[cut] else { continue };
            for arrived in [0, 512, 1024, bytes.len() / 1024 * 512, bytes.len() / 1024 * 512 + 512, bytes.len()] {
                let (mut disk, _, _, _) = blank(512, 0);
                for write in &writes[..cut] {
                    carry_out(&disk, write, usize::MAX);
                }
                carry_out(&disk, &writes[cut], arrived);
                let content = content::look(&mut disk, 512).expect("readable");
                assert!(matches!(content, Content::Nothing | Content::CutShort), "{content:?} after {arrived} bytes of write {cut}");
            }
        }
    }

    #[test]
    fn what_was_there_cannot_be_taken_for_a_file_system() {
        let (mut disk, table, extents, sectors) = blank(512, 0);
        for extent in &extents {
            disk.write_all_at(&[0x53, 0xef], extent.start + 0x438).expect("write");
        }
        assert!(matches!(content::look(&mut disk, 512), Ok(Content::Nothing)), "partitions are not looked into");
        for write in writes(&table, &extents, sectors) {
            carry_out(&disk, &write, usize::MAX);
        }
        for extent in &extents {
            let mut magic = [1; 2];
            disk.read_exact_at(&mut magic, extent.start + 0x438).expect("read");
            assert_eq!(magic, [0; 2]);
        }
    }
}
