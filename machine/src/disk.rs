//! What is on the disk that Corten boots from: the partition table that image-build and the installer write and init reads.

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

/// GPT attribute bit that says "a file system was made here once": with it set nobody runs mkfs again, whatever the content looks like.
/// Bits 48 to 63 belong to the partition type's owner (UEFI 2.10, table 5.8).
pub const MADE_ONCE_ATTRIBUTE_BIT: u8 = 56;

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
