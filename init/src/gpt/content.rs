//! What a disk holds before an installation: only what holds nothing is written to without leave.

use std::io::{self, Read, Seek, SeekFrom};

use machine::disk::content::of_head;
use machine::disk::{ALIGNMENT_BYTES, INSTALLING_MARK, INSTALLING_MARK_AT, Partition};

use super::table::{self, Table};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Zeros where tables and file systems have their marks.
    Nothing,
    /// Corten's partitions, or a part of their table, of an installation that was not completed; or no file system of the machine was ever
    /// made on them.
    CutShort,
    /// Something of somebody's: "an ext4 file system".
    Other(String),
}

/// Looks at a disk's table, its first and its last mebibyte.
pub fn look(disk: &mut (impl Read + Seek), sector_size: u64) -> io::Result<Content> {
    let size = disk.seek(SeekFrom::End(0))?;
    let mut head = Vec::new();
    disk.seek(SeekFrom::Start(0))?;
    disk.by_ref().take(ALIGNMENT_BYTES).read_to_end(&mut head)?;
    let mut tail = Vec::new();
    disk.seek(SeekFrom::Start(size.saturating_sub(ALIGNMENT_BYTES)))?;
    disk.by_ref().take(ALIGNMENT_BYTES).read_to_end(&mut tail)?;
    let being_installed = head.get(INSTALLING_MARK_AT as usize..).is_some_and(|head| head.starts_with(INSTALLING_MARK));
    Ok(match table::read(disk, sector_size) {
        Ok(seen) if is_corten(&seen.table) && (being_installed || is_unused(&seen.table)) => Content::CutShort,
        Ok(seen) => Content::Other(format!("a GPT with {}", names(&seen.table))),
        Err(_) if being_installed => Content::CutShort,
        Err(_) => match of_head(&head) {
            Some(name) => Content::Other(name),
            None if head.iter().chain(&tail).all(|byte| *byte == 0) => Content::Nothing,
            None => Content::Other("data of no known kind in its first or last MiB".to_owned()),
        },
    })
}

fn is_corten(table: &Table) -> bool {
    let ours = |label: &str| Partition::ALL.iter().any(|partition| partition.label() == label);
    table.find(Partition::RootA).is_some()
        && table.entries.iter().filter(|entry| entry.is_used()).all(|entry| ours(entry.partition_name.as_str()))
}

fn is_unused(table: &Table) -> bool {
    !Partition::ALL.iter().any(|partition| table.is_marked(*partition))
}

fn names(table: &Table) -> String {
    let used = table.entries.iter().enumerate().filter(|(_, entry)| entry.is_used());
    let names: Vec<String> = used
        .map(|(index, entry)| match entry.partition_name.as_str() {
            "" => format!("partition {}", index + 1),
            name => name.escape_debug().to_string(),
        })
        .collect();
    if names.is_empty() { "no partitions".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptman::{GPT, GPTPartitionEntry};
    use machine::disk::MADE_ONCE_ATTRIBUTE_BIT;
    use std::io::Cursor;
    use std::process::Command;

    fn of(disk: &[u8]) -> Content {
        look(&mut Cursor::new(disk), 512).expect("readable")
    }

    fn gpt(labels: &[&str], bits: u64) -> Vec<u8> {
        let mut disk = Cursor::new(vec![0; 16 << 20]);
        let mut table = GPT::new_from(&mut disk, 512, [1; 16]).expect("table");
        for (number, label) in (1..).zip(labels) {
            table[number] = GPTPartitionEntry {
                partition_type_guid: [1; 16],
                unique_partition_guid: [number as u8; 16],
                starting_lba: u64::from(number) * 2048,
                ending_lba: u64::from(number) * 2048 + 2047,
                attribute_bits: bits,
                partition_name: (*label).into(),
            };
        }
        table.write_into(&mut disk).expect("write");
        GPT::write_protective_mbr_into(&mut disk, 512).expect("write");
        disk.into_inner()
    }

    #[test]
    fn only_zeros_are_nothing() {
        assert_eq!(of(&[]), Content::Nothing);
        let mut disk = vec![0; 4 << 20];
        assert_eq!(of(&disk), Content::Nothing);
        disk[2 << 20] = 1;
        assert_eq!(of(&disk), Content::Nothing, "the middle is not looked at");
        for at in [700 * 1024, (4 << 20) - 1] {
            let mut disk = vec![0; 4 << 20];
            disk[at] = 1;
            assert!(matches!(of(&disk), Content::Other(name) if name.contains("no known kind")), "byte {at}");
        }
    }

    #[test]
    fn tables_are_named_with_their_partitions() {
        assert_eq!(of(&gpt(&["EFI", ""], 0)), Content::Other("a GPT with EFI, partition 2".into()));
        assert_eq!(of(&gpt(&[], 0)), Content::Other("a GPT with no partitions".into()));
        assert_eq!(of(&gpt(&["ESP", "ROOT-A", "STATE"], 0)), Content::CutShort);
        let used = of(&gpt(&["ESP", "ROOT-A", "STATE"], 1 << MADE_ONCE_ATTRIBUTE_BIT));
        assert_eq!(used, Content::Other("a GPT with ESP, ROOT-A, STATE".into()));
        let mut unfinished = gpt(&["ESP", "ROOT-A", "STATE"], 1 << MADE_ONCE_ATTRIBUTE_BIT);
        let mark = INSTALLING_MARK_AT as usize..INSTALLING_MARK_AT as usize + INSTALLING_MARK.len();
        unfinished[mark.clone()].copy_from_slice(INSTALLING_MARK);
        assert_eq!(of(&unfinished), Content::CutShort, "STATE was made, and the machine never booted from it");
        let mut foreign = gpt(&["ROOT-A", "photos"], 0);
        foreign[mark].copy_from_slice(INSTALLING_MARK);
        assert_eq!(of(&foreign), Content::Other("a GPT with ROOT-A, photos".into()));
        assert_eq!(of(&gpt(&["ROOT-A", "photos"], 0)), Content::Other("a GPT with ROOT-A, photos".into()));
        let mut torn = gpt(&["EFI"], 0);
        torn[600] ^= 1;
        let end = torn.len() - 512;
        torn[end] ^= 1;
        assert_eq!(of(&torn), Content::Other("a damaged GPT".into()));
        let mut mbr = vec![0; 4 << 20];
        mbr[446 + 4] = 0x83;
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(of(&mbr), Content::Other("an MBR with 1 partitions".into()));
    }

    /// What the tools of the image make is known by name.
    #[test]
    fn file_systems_are_named() {
        for (program, arguments, name) in [
            ("mkfs.ext4", &["-q", "-F"][..], "an ext2, ext3 or ext4 file system"),
            ("mkfs.fat", &["-F", "32"], "a FAT file system"),
            ("mkfs.fat", &["-F", "16"], "a FAT file system"),
            ("mkswap", &["-q"], "swap space"),
        ] {
            let disk = tempfile::NamedTempFile::new().expect("disk");
            disk.as_file().set_len(64 << 20).expect("size");
            let output = Command::new(program).args(arguments).arg(disk.path()).output().expect("e2fsprogs, dosfstools, util-linux");
            assert!(output.status.success(), "{output:?}");
            assert_eq!(look(&mut disk.reopen().expect("open"), 512).expect("readable"), Content::Other(name.into()), "{program}");
        }
    }
}
