//! What is on the disk that Corten boots from: the partition table that image-build and the installer write and init reads.

pub mod content;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// A partition, named by its GPT label. Order in [`Partition::ALL`] is order on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    Esp,
    RootA,
    RootAVerity,
    RootB,
    RootBVerity,
    State,
    Etcd,
    Ephemeral,
}

impl Partition {
    pub const ALL: [Partition; 8] = [
        Partition::Esp,
        Partition::RootA,
        Partition::RootAVerity,
        Partition::RootB,
        Partition::RootBVerity,
        Partition::State,
        Partition::Etcd,
        Partition::Ephemeral,
    ];

    /// GPT partition name.
    pub fn label(self) -> &'static str {
        match self {
            Partition::Esp => "ESP",
            Partition::RootA => "ROOT-A",
            Partition::RootAVerity => "ROOT-A-VERITY",
            Partition::RootB => "ROOT-B",
            Partition::RootBVerity => "ROOT-B-VERITY",
            Partition::State => "STATE",
            Partition::Etcd => "ETCD",
            Partition::Ephemeral => "EPHEMERAL",
        }
    }

    /// Size in bytes; of EPHEMERAL the least one: it takes the rest of the disk. Sizes are for ever.
    pub fn size_bytes(self) -> u64 {
        match self {
            Partition::Esp | Partition::RootA | Partition::RootB | Partition::State => GIB,
            Partition::RootAVerity | Partition::RootBVerity => 64 * MIB,
            Partition::Etcd => 10 * GIB,
            Partition::Ephemeral => 2 * GIB,
        }
    }

    /// GPT partition type, as the UAPI Discoverable Partitions Specification names them for x86-64.
    pub fn type_guid(self) -> &'static str {
        match self {
            Partition::Esp => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Partition::RootA | Partition::RootB => "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            Partition::RootAVerity | Partition::RootBVerity => "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
            Partition::State | Partition::Etcd => "0fc63daf-8483-4772-8e79-3d69d8477de4",
            Partition::Ephemeral => "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
        }
    }
}

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    pub partition: Partition,
    pub start: u64,
    pub size: u64,
}

/// Partitions begin and end at multiples of this many bytes.
pub const ALIGNMENT_BYTES: u64 = MIB;

/// Entries that a partition table has room for, and the bytes of each: what UEFI asks for at least (UEFI 2.10, 5.3.3).
pub const TABLE_ENTRIES: u64 = 128;
const ENTRY_BYTES: u64 = 128;

/// A disk that cannot hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDisk {
    #[error("it has {} MiB; the partitions need {} MiB, which is {} MiB more", size / MIB, needed / MIB, (needed - size).div_ceil(MIB))]
    TooSmall { size: u64, needed: u64 },
    #[error("its sectors have {0} bytes; expected 512 or 4096")]
    Sectors(u64),
}

/// Bytes that a disk with these partitions has at least: a mebibyte for the table, the partitions, a mebibyte for the table's copy.
pub fn least_bytes(partitions: &[Partition]) -> u64 {
    partitions.iter().map(|partition| partition.size_bytes()).sum::<u64>() + 2 * ALIGNMENT_BYTES
}

/// Where the partitions lie on a disk of so many bytes: one after the other behind the first mebibyte. EPHEMERAL takes what the others
/// leave, up to the table's copy; it is the last one where there is one.
pub fn layout(partitions: &[Partition], disk_bytes: u64, sector_bytes: u64) -> Result<Vec<Extent>, BadDisk> {
    if ![512, 4096].contains(&sector_bytes) {
        return Err(BadDisk::Sectors(sector_bytes));
    }
    let needed = least_bytes(partitions);
    if disk_bytes < needed {
        return Err(BadDisk::TooSmall { size: disk_bytes, needed });
    }
    // Behind the last partition: the copy's entries and its header, which is the disk's last sector.
    let table = (TABLE_ENTRIES * ENTRY_BYTES).div_ceil(sector_bytes) + 1;
    let end = (disk_bytes / sector_bytes - table) * sector_bytes / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    let mut at = ALIGNMENT_BYTES;
    let mut extents = Vec::new();
    for &partition in partitions {
        let size = if partition == Partition::Ephemeral { end - at } else { partition.size_bytes() };
        extents.push(Extent { partition, start: at, size });
        at += size;
    }
    Ok(extents)
}

/// GPT attribute bit that says "a file system was made here once": with it set nobody runs mkfs again, whatever the content looks like.
/// Bits 48 to 63 belong to the partition type's owner (UEFI 2.10, table 5.8).
pub const MADE_ONCE_ATTRIBUTE_BIT: u8 = 56;

/// Says "an installation is under way": it stands on the disk from before its table is written until the disk can be booted, so that one
/// which was cut short is told from a machine's disk and can be begun anew. It is behind the table and before every partition.
pub const INSTALLING_MARK: &[u8; 32] = b"corten: laying out this disk....";
/// Where that is, in bytes from the start of the disk: a multiple of every sector size.
pub const INSTALLING_MARK_AT: u64 = ALIGNMENT_BYTES / 2;

/// UUID version (RFC 9562) of the disk and partition GUIDs that image-build derives from its input. All machines of an image start with
/// the same ones: first boot replaces each GUID of this version by a random one.
pub const IMAGE_GUID_VERSION: u8 = 8;

/// One of the two places that hold a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    pub fn root(self) -> Partition {
        match self {
            Slot::A => Partition::RootA,
            Slot::B => Partition::RootB,
        }
    }

    pub fn verity(self) -> Partition {
        match self {
            Slot::A => Partition::RootAVerity,
            Slot::B => Partition::RootBVerity,
        }
    }

    /// `a` or `b`: as in `loader/entries/corten-a.conf` and `corten/a.efi` on the ESP.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

/// A writable file system. Each stands on the partition of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Volume {
    State,
    Etcd,
    Ephemeral,
}

impl Volume {
    pub const ALL: [Volume; 3] = [Volume::State, Volume::Etcd, Volume::Ephemeral];

    pub fn partition(self) -> Partition {
        match self {
            Volume::State => Partition::State,
            Volume::Etcd => Partition::Etcd,
            Volume::Ephemeral => Partition::Ephemeral,
        }
    }

    /// Where it is mounted.
    pub fn mount_point(self) -> &'static str {
        match self {
            Volume::State => "/state",
            Volume::Etcd => "/etcd",
            Volume::Ephemeral => "/var",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: [Partition; 4] = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];

    #[test]
    fn partitions_follow_each_other_on_whole_mebibytes() {
        for sector in [512, 4096] {
            for spare in [0, 1, 4095, MIB - 1, MIB, 5 * GIB + 512] {
                let size = least_bytes(&Partition::ALL) + spare;
                let extents = layout(&Partition::ALL, size, sector).expect("large enough");
                assert!(extents.windows(2).all(|pair| pair[0].start + pair[0].size == pair[1].start), "{sector} {spare}");
                assert!(extents.iter().all(|extent| extent.start % ALIGNMENT_BYTES == 0 && extent.size >= extent.partition.size_bytes()));
                let last = extents.last().expect("eight partitions");
                let behind = size - last.start - last.size;
                assert!((33 * 512..2 * MIB).contains(&behind), "{sector} {spare}: {behind} bytes for the table's copy");
            }
        }
    }

    #[test]
    fn smallest_disk_is_exactly_full() {
        let extents = layout(&WORKER, least_bytes(&WORKER), 512).expect("large enough");
        let sizes: Vec<u64> = extents.iter().map(|extent| extent.size).collect();
        assert_eq!(sizes, WORKER.map(Partition::size_bytes));
    }

    #[test]
    fn disk_that_is_too_small_or_odd_is_told_what_is_missing() {
        let error = layout(&WORKER, 4 * GIB, 512).expect_err("too small").to_string();
        assert_eq!(error, "it has 4096 MiB; the partitions need 5122 MiB, which is 1026 MiB more");
        let error = layout(&WORKER, least_bytes(&WORKER) - 1, 512).expect_err("too small").to_string();
        assert!(error.ends_with("which is 1 MiB more"), "{error}");
        assert_eq!(layout(&WORKER, GIB, 520), Err(BadDisk::Sectors(520)));
    }
}
