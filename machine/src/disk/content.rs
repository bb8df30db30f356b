//! What lies on a whole disk, told by marks in its first bytes.

/// No mark lies behind these.
pub const HEAD_BYTES: usize = 0x11000;

/// Marks of what can lie on a whole disk: place, bytes, name. Those of libblkid, as far as they are common on servers.
const MARKS: [(usize, &[u8], &str); 17] = [
    (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a Btrfs file system"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "an erofs file system"),
    (0, b"hsqs", "a SquashFS file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (4086, b"SWAPSPACE2", "swap space"),
    (512, b"EFI PART", "a damaged GPT"),
    (4096, b"EFI PART", "a damaged GPT"),
];

/// What lies on a disk, by its first bytes: "an ext4 file system"; `None` where nothing is known. [`HEAD_BYTES`] of them show all marks.
pub fn of_head(head: &[u8]) -> Option<String> {
    let marked = MARKS.iter().find(|(at, mark, _)| head.get(*at..).is_some_and(|head| head.starts_with(mark)));
    let mbr = || {
        // Four entries of 16 bytes, the type in the fifth; and the signature, which a boot sector has as well.
        let kinds = head.get(446..510)?.chunks(16).filter_map(|entry| entry.get(4)).filter(|kind| **kind != 0).count();
        let signed = head.get(510..512) == Some(&[0x55, 0xaa]);
        (signed && kinds > 0).then(|| format!("an MBR with {kinds} partitions"))
    };
    marked.map(|(_, _, name)| (*name).to_owned()).or_else(mbr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_marks_are_within_the_head() {
        for (at, mark, name) in MARKS {
            assert!(at + mark.len() <= HEAD_BYTES, "{name}");
            let mut head = vec![0; HEAD_BYTES];
            head[at..at + mark.len()].copy_from_slice(mark);
            assert!(of_head(&head).is_some());
        }
        assert_eq!((of_head(&[0; HEAD_BYTES]), of_head(&[])), (None, None));
    }
}
