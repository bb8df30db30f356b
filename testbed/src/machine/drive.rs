//! What holds a machine's blocks, and the device that the guest finds them behind.

use std::path::PathBuf;

use crate::nbd::{NbdDisk, SECTOR_BYTES};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub content: Disk,
    pub device: Device,
    /// What the guest reads as the device's serial number. None: `corten<N>`, N being its place among the machine's drives.
    pub serial: Option<String>,
    /// Logical and physical sector: 512 or 4096. Only virtio, SCSI and NVMe disks take the latter.
    pub sector_bytes: u64,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// What is written goes to `disk<N>.qcow2` in the machine's directory, which is made if it is missing; `base` stays as it is.
    Overlay { base: PathBuf, format: DiskFormat, size_bytes: Option<u64> },
    /// A file, written directly.
    File { path: PathBuf, format: DiskFormat },
    /// An [`NbdDisk`]'s socket. The guest's flushes reach it.
    Nbd { socket: PathBuf },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

impl DiskFormat {
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// World wide names are 64-bit numbers (NAA 5, or an EUI-64 for NVMe); virtio and USB have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Virtio,
    /// On a virtio-scsi controller, as clouds have it.
    Scsi {
        wwn: Option<u64>,
    },
    Sata {
        wwn: Option<u64>,
    },
    /// With a world wide name it has no rank in the order of booting: the firmware tries it last.
    Nvme {
        wwn: Option<u64>,
    },
    /// A stick on an xHCI controller; it says that it is removable.
    Usb,
    /// An optical drive on the SATA controller, read only, with 2048-byte sectors.
    Optical,
}

impl Drive {
    /// Behind virtio, 512-byte sectors, writable.
    pub fn new(content: Disk) -> Drive {
        Drive { content, device: Device::Virtio, serial: None, sector_bytes: SECTOR_BYTES, read_only: false }
    }

    /// With the sectors that the disk was made with.
    pub fn nbd(disk: &NbdDisk) -> Drive {
        Drive { sector_bytes: disk.sector_bytes(), ..Drive::new(Disk::Nbd { socket: disk.socket().to_owned() }) }
    }

    /// An ISO in an optical drive.
    pub fn optical(iso: impl Into<PathBuf>) -> Drive {
        let content = Disk::File { path: iso.into(), format: DiskFormat::Raw };
        Drive { device: Device::Optical, read_only: true, ..Drive::new(content) }
    }

    /// A USB stick with a copy of a raw image; what is written to it is not kept.
    pub fn stick(image: impl Into<PathBuf>) -> Drive {
        let content = Disk::Overlay { base: image.into(), format: DiskFormat::Raw, size_bytes: None };
        Drive { device: Device::Usb, ..Drive::new(content) }
    }

    pub fn device(mut self, device: Device) -> Drive {
        self.device = device;
        self
    }

    pub fn serial(mut self, serial: impl Into<String>) -> Drive {
        self.serial = Some(serial.into());
        self
    }

    pub fn sector_bytes(mut self, sector_bytes: u64) -> Drive {
        self.sector_bytes = sector_bytes;
        self
    }

    pub fn read_only(mut self) -> Drive {
        self.read_only = true;
        self
    }
}
