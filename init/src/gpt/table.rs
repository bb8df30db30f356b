//! Both copies of a GPT as values: how they are read, and in which order they are written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use gptman::{GPTHeader, GPTPartitionEntry};
use machine::disk::{MADE_ONCE_ATTRIBUTE_BIT, Partition};

use super::Error;

/// What UEFI asks for, and the only size that Corten and the usual tools write.
const ENTRY_BYTES: u32 = 128;
const MOST_ENTRIES: u32 = 1024;

/// A whole partition table: the header is the primary one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub sector_size: u64,
    pub header: GPTHeader,
    pub entries: Vec<GPTPartitionEntry>,
}

/// What was found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Primary before backup, in the shape of a primary.
    pub table: Table,
    /// Both copies are readable, say the same and lie where they should.
    pub whole: bool,
    pub disk_sectors: u64,
}

/// One write to the disk, or the wait until all before it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    Bytes { at: u64, bytes: Vec<u8> },
    Sync,
}

/// Reads a disk's table.
pub fn read(disk: &mut (impl Read + Seek), sector_size: u64) -> Result<Seen, Error> {
    let disk_sectors = disk.seek(SeekFrom::End(0)).map_err(Error::Read)? / sector_size;
    let last = disk_sectors.saturating_sub(1);
    let primary = read_copy(disk, sector_size, 1);
    let backup_at = primary.as_ref().map_or(last, |primary| primary.header.backup_lba);
    let backup = read_copy(disk, sector_size, backup_at);
    match (primary, backup) {
        (Ok(table), backup) => {
            let same = backup.is_ok_and(|backup| backup.as_primary() == table);
            Ok(Seen { whole: same && table.header.backup_lba == last, table, disk_sectors })
        }
        (Err(_), Ok(backup)) => Ok(Seen { table: backup.as_primary(), whole: false, disk_sectors }),
        (Err(primary), Err(backup)) => Err(Error::Damaged { primary, backup }),
    }
}

fn read_copy(disk: &mut (impl Read + Seek), sector_size: u64, lba: u64) -> Result<Table, String> {
    let at = lba.checked_mul(sector_size).ok_or("lies beyond every disk")?;
    disk.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
    let header = GPTHeader::read_from(disk).map_err(|error| error.to_string())?;
    // The sizes are checked here because the library takes them as they are.
    if header.size_of_partition_entry != ENTRY_BYTES || header.number_of_partition_entries > MOST_ENTRIES {
        let (number, size) = (header.number_of_partition_entries, header.size_of_partition_entry);
        return Err(format!("has {number} entries of {size} bytes; expected at most {MOST_ENTRIES} of {ENTRY_BYTES}"));
    }
    if header.primary_lba != lba || header.partition_entry_lba > u64::MAX / sector_size - u64::from(MOST_ENTRIES * ENTRY_BYTES) {
        return Err("names another place than its own".to_owned());
    }
    let entries = header.read_partitions(disk, sector_size).map_err(|error| error.to_string())?;
    Ok(Table { sector_size, header, entries })
}

impl Table {
    /// The number of a partition, counted from 1, and its entry.
    pub fn find(&self, partition: Partition) -> Option<(usize, &GPTPartitionEntry)> {
        let used = |entry: &GPTPartitionEntry| entry.is_used() && entry.partition_name.as_str() == partition.label();
        self.entries.iter().position(used).and_then(|index| Some((index + 1, self.entries.get(index)?)))
    }

    /// As [`Table::find`], to be changed.
    pub fn find_mut(&mut self, partition: Partition) -> Option<&mut GPTPartitionEntry> {
        let used = |entry: &&mut GPTPartitionEntry| entry.is_used() && entry.partition_name.as_str() == partition.label();
        self.entries.iter_mut().find(used)
    }

    /// Whether a file system was made on a partition.
    pub fn is_marked(&self, partition: Partition) -> bool {
        self.find(partition).is_some_and(|(_, entry)| entry.attribute_bits & (1 << MADE_ONCE_ATTRIBUTE_BIT) != 0)
    }

    /// Start and length of a partition in bytes.
    pub fn range(&self, partition: Partition) -> Option<(u64, u64)> {
        let (_, entry) = self.find(partition)?;
        let sectors = entry.ending_lba.checked_sub(entry.starting_lba)?.checked_add(1)?;
        Some((entry.starting_lba.checked_mul(self.sector_size)?, sectors.checked_mul(self.sector_size)?))
    }

    /// Sectors that the entries take.
    pub fn array_sectors(&self) -> u64 {
        (self.entries.len() as u64 * u64::from(ENTRY_BYTES)).div_ceil(self.sector_size)
    }

    /// Lets the table end at the end of a disk of so many sectors.
    pub fn stretch(&mut self, disk_sectors: u64) {
        self.header.backup_lba = disk_sectors.saturating_sub(1);
        self.header.last_usable_lba = disk_sectors.saturating_sub(2).saturating_sub(self.array_sectors());
    }

    fn as_backup(&self) -> Table {
        let mut table = self.clone();
        table.header.primary_lba = self.header.backup_lba;
        table.header.backup_lba = self.header.primary_lba;
        table.header.partition_entry_lba = self.header.backup_lba.saturating_sub(self.array_sectors());
        table.sum()
    }

    fn as_primary(&self) -> Table {
        let mut table = self.clone();
        if table.header.primary_lba != 1 {
            table.header.backup_lba = self.header.primary_lba;
            table.header.primary_lba = 1;
            table.header.partition_entry_lba = 2;
        }
        table.sum()
    }

    fn sum(mut self) -> Table {
        self.header.update_partition_entry_array_crc32(&self.entries);
        self.header.update_crc32_checksum();
        self
    }

    /// The writes that make a disk hold this table. The backup is durable before the primary is touched, so whichever copy a power cut
    /// tears, the other is whole.
    pub fn writes(&self) -> Vec<DiskWrite> {
        [self.as_backup(), self.as_primary()].iter().flat_map(Table::copy_writes).collect()
    }

    /// Entries before the header that sums them up.
    fn copy_writes(&self) -> [DiskWrite; 3] {
        let mut recorder = Recorder::default();
        // Writing into memory does not fail.
        let _ = self.header.clone().write_into(&mut recorder, self.sector_size, &self.entries);
        let header_at = self.header.primary_lba.saturating_mul(self.sector_size);
        let (header, entries): (Vec<_>, Vec<_>) = recorder.writes.into_iter().partition(|(at, _)| *at == header_at);
        let one = |writes: Vec<(u64, Vec<u8>)>| DiskWrite::Bytes {
            at: writes.first().map_or(0, |(at, _)| *at),
            bytes: writes.into_iter().flat_map(|(_, bytes)| bytes).collect(),
        };
        [one(entries), one(header), DiskWrite::Sync]
    }
}

/// Takes writes down instead of carrying them out.
#[derive(Default)]
struct Recorder {
    at: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.push((self.at, bytes.to_vec()));
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) => self.at = at,
            SeekFrom::Current(_) | SeekFrom::End(_) => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
        Ok(self.at)
    }
}
