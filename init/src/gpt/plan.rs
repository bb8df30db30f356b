//! Decides what must change in a partition table.

use gptman::GPTPartitionEntry;
use machine::disk::{ALIGNMENT_BYTES, IMAGE_GUID_VERSION, MADE_ONCE_ATTRIBUTE_BIT, Partition};

use super::Error;
use super::table::{Seen, Table};

/// The table that should be on the disk, where it is another than the one that is: both copies whole and the backup at the disk's end, no
/// GUID that every machine of the image has, EPHEMERAL up to the end of the disk.
pub fn fix(seen: &Seen, mut random: impl FnMut() -> [u8; 16]) -> Option<Table> {
    let mut table = seen.table.clone();
    table.stretch(seen.disk_sectors);
    if is_the_images(&table.header.disk_guid) {
        table.header.disk_guid = random_guid(random());
    }
    for entry in table.entries.iter_mut().filter(|entry| entry.is_used()) {
        if is_the_images(&entry.unique_partition_guid) {
            entry.unique_partition_guid = random_guid(random());
        }
    }
    grow_ephemeral(&mut table);
    (!seen.whole || table != seen.table).then_some(table)
}

/// The table with a partition's mark set or cleared; `None` when it is so already.
pub fn mark(table: &Table, partition: Partition, made: bool) -> Result<Option<Table>, Error> {
    let mut table = table.clone();
    let entry = table.find_mut(partition).ok_or(Error::Missing(partition.label()))?;
    let bit = 1 << MADE_ONCE_ATTRIBUTE_BIT;
    let bits = if made { entry.attribute_bits | bit } else { entry.attribute_bits & !bit };
    if bits == entry.attribute_bits {
        return Ok(None);
    }
    entry.attribute_bits = bits;
    Ok(Some(table))
}

fn grow_ephemeral(table: &mut Table) {
    let Some((_, ephemeral)) = table.find(Partition::Ephemeral) else { return };
    let (start, end) = (ephemeral.starting_lba, ephemeral.ending_lba);
    let sectors = ALIGNMENT_BYTES / table.sector_size;
    let is_behind = |entry: &&GPTPartitionEntry| entry.is_used() && entry.starting_lba > start;
    let next = table.entries.iter().filter(is_behind).map(|entry| entry.starting_lba).min();
    let first_taken = next.unwrap_or(table.header.last_usable_lba.saturating_add(1));
    let grown = (first_taken / sectors * sectors).saturating_sub(1);
    if let Some(entry) = table.find_mut(Partition::Ephemeral).filter(|_| grown > end) {
        entry.ending_lba = grown;
    }
}

/// GUIDs lie on the disk with their first three fields little-endian: the version is in the high half of byte 7.
fn is_the_images(guid: &[u8; 16]) -> bool {
    guid.get(7).is_some_and(|byte| byte >> 4 == IMAGE_GUID_VERSION)
}

/// RFC 9562, version 4.
pub fn random_guid(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, DiskWrite};
    use super::*;
    use gptman::GPT;
    use std::io::Cursor;

    const SECTOR: u64 = 512;
    const MIB: u64 = 1024 * 1024 / SECTOR;

    /// A small disk as image-build makes it: partitions of one MiB with GUIDs of the image, EPHEMERAL last.
    fn image() -> Vec<u8> {
        let mut disk = Cursor::new(vec![0; (12 * MIB * SECTOR) as usize]);
        let mut gpt = GPT::new_from(&mut disk, SECTOR, image_guid(0)).expect("table");
        for (number, partition) in (1..).zip(Partition::ALL) {
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: [1; 16],
                unique_partition_guid: image_guid(number as u8),
                starting_lba: u64::from(number) * MIB,
                ending_lba: (u64::from(number) + 1) * MIB - 1,
                attribute_bits: 0,
                partition_name: partition.label().into(),
            };
        }
        gpt.write_into(&mut disk).expect("write");
        disk.into_inner()
    }

    fn image_guid(number: u8) -> [u8; 16] {
        let mut guid = [number; 16];
        guid[7] = IMAGE_GUID_VERSION << 4;
        guid
    }

    fn counter() -> impl FnMut() -> [u8; 16] {
        let mut number = 100;
        move || {
            number += 1;
            [number; 16]
        }
    }

    fn read(disk: &[u8]) -> Seen {
        table::read(&mut Cursor::new(disk), SECTOR).expect("readable table")
    }

    fn carry_out(disk: &mut [u8], write: &DiskWrite, bytes_that_arrive: usize) {
        if let DiskWrite::Bytes { at, bytes } = write {
            let at = *at as usize;
            disk[at..at + bytes_that_arrive].copy_from_slice(&bytes[..bytes_that_arrive]);
        }
    }

    fn write(disk: &mut [u8], table: &Table) {
        for step in table.writes() {
            let length = if let DiskWrite::Bytes { bytes, .. } = &step { bytes.len() } else { 0 };
            carry_out(disk, &step, length);
        }
    }

    #[test]
    fn first_boot_on_a_larger_disk() {
        let mut disk = image();
        disk.resize((40 * MIB * SECTOR) as usize + 512, 0);
        let before = read(&disk);
        assert!(!before.whole, "the backup is not at the end of the disk");

        let table = fix(&before, counter()).expect("must change");
        write(&mut disk, &table);

        let after = read(&disk);
        assert!(after.whole);
        assert_eq!(fix(&after, counter()), None, "a second fix has nothing to do");
        let guids: Vec<_> = after.table.entries.iter().filter(|e| e.is_used()).map(|e| e.unique_partition_guid).collect();
        assert!(guids.iter().chain([&after.table.header.disk_guid]).all(|guid| !is_the_images(guid)));
        let (start, length) = after.table.range(Partition::Ephemeral).expect("there");
        assert_eq!(((start + length) % ALIGNMENT_BYTES, start + length), (0, 39 * 1024 * 1024), "aligned, and before the backup");
        let state = |seen: &Seen| seen.table.range(Partition::State);
        assert_eq!(state(&before), state(&after), "nothing else moved");
        let theirs = GPT::find_from(&mut Cursor::new(&disk)).expect("the library reads it");
        assert_eq!(theirs.header.disk_guid, after.table.header.disk_guid);
    }

    #[test]
    fn power_cut_at_any_write_leaves_a_readable_table() {
        let mut whole = image();
        whole.resize((20 * MIB * SECTOR) as usize, 0);
        let old = read(&whole).table;
        let new = fix(&read(&whole), counter()).expect("must change");
        let writes = new.writes();
        for cut in 0..writes.len() {
            let DiskWrite::Bytes { bytes, .. } = &writes[cut] else { continue };
            for arrived in [0, 1, 100, 128, 512, 700, bytes.len() - 1, bytes.len()].into_iter().filter(|n| *n <= bytes.len()) {
                let mut disk = whole.clone();
                for write in &writes[..cut] {
                    carry_out(&mut disk, write, if let DiskWrite::Bytes { bytes, .. } = write { bytes.len() } else { 0 });
                }
                carry_out(&mut disk, &writes[cut], arrived);
                let table = read(&disk).table;
                let same = |other: &Table| table.entries == other.entries && table.header.disk_guid == other.header.disk_guid;
                assert!(same(&old) || same(&new), "cut in write {cut} after {arrived} bytes");
                if let Some(repaired) = fix(&read(&disk), counter()) {
                    write(&mut disk, &repaired);
                }
                assert!(read(&disk).whole, "repaired after a cut in write {cut} after {arrived} bytes");
            }
        }
    }

    #[test]
    fn either_copy_can_be_lost() {
        let mut disk = image();
        let seen = read(&disk);
        write(&mut disk, &fix(&seen, counter()).expect("must change"));
        let table = read(&disk).table;
        for torn in [512, 1024 + 3, disk.len() - 512, disk.len() - 512 - 32 * 512] {
            let mut torn_disk = disk.clone();
            torn_disk[torn] ^= 1;
            let seen = read(&torn_disk);
            assert_eq!((seen.whole, &seen.table), (false, &table), "byte {torn}");
            let repaired = fix(&seen, counter()).expect("must be repaired");
            write(&mut torn_disk, &repaired);
            assert!(read(&torn_disk).whole);
        }
        let mut lost = disk.clone();
        lost[512] ^= 1;
        let end = lost.len() - 512;
        lost[end] ^= 1;
        assert!(matches!(table::read(&mut Cursor::new(&lost), SECTOR), Err(Error::Damaged { .. })));
    }

    #[test]
    fn mark_is_set_and_cleared_for_one_partition() {
        let table = read(&image()).table;
        let marked = mark(&table, Partition::State, true).expect("there").expect("changes");
        assert!(marked.is_marked(Partition::State) && !marked.is_marked(Partition::Ephemeral));
        assert_eq!(mark(&marked, Partition::State, true).expect("there"), None);
        assert_eq!(mark(&marked, Partition::State, false).expect("there").expect("changes").entries, table.entries);
    }

    #[test]
    fn what_lies_behind_ephemeral_stops_its_growth() {
        let mut seen = read(&image());
        seen.disk_sectors = 40 * MIB;
        seen.table.entries[20] = GPTPartitionEntry {
            starting_lba: 30 * MIB,
            ending_lba: 31 * MIB - 1,
            partition_name: "user".into(),
            ..seen.table.entries[0].clone()
        };
        let grown = fix(&seen, counter()).expect("must change");
        assert_eq!(grown.find(Partition::Ephemeral).expect("there").1.ending_lba, 30 * MIB - 1);
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        for disk in [vec![], vec![0; 512], vec![0xff; 4096]] {
            assert!(table::read(&mut Cursor::new(disk), SECTOR).is_err());
        }
        let mut odd = image();
        odd[512 + 84..512 + 88].copy_from_slice(&256_u32.to_le_bytes());
        odd[512 + 16..512 + 20].copy_from_slice(&[0; 4]);
        let header: [u8; 92] = odd[512..604].try_into().expect("92 bytes");
        let sum = crc32(&header);
        odd[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        assert!(!table::read(&mut Cursor::new(odd), SECTOR).expect("the backup is good").whole);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes
            .iter()
            .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())))
    }
}
