//! What a machine is made of.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Firmware, free_port, nbd::NbdDisk};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    pub name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub boot: Boot,
    /// In the order in which the guest sees them: vda, vdb, ...
    pub disks: Vec<Disk>,
    pub forwards: Vec<Forward>,
    /// Whether no packet of the guest leaves the host.
    pub isolated: bool,
    /// The guest's clock at power-on (`2026-01-31T12:00:00`, UTC). None: the host's.
    pub clock: Option<String>,
    /// Further arguments of QEMU.
    pub extra: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// UEFI from the first disk.
    Firmware(Firmware),
    /// A kernel that QEMU loads itself.
    Kernel { kernel: PathBuf, initrd: Option<PathBuf>, command_line: String },
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

/// A TCP port of the guest, reached at `127.0.0.1:<host>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

/// Where QEMU's user network has its name server. It does not tell an isolated machine so.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// When a machine ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// With the process that started it, however that dies, and after the limit.
    Bounded(Duration),
    /// Not before somebody ends it.
    Detached,
    /// After the limit, if nobody ends it before; whatever becomes of the process that started it.
    DetachedFor(Duration),
}

impl MachineSpec {
    /// One CPU, 1 GiB, no disks, isolated.
    pub fn new(name: impl Into<String>, boot: Boot) -> MachineSpec {
        MachineSpec {
            name: name.into(),
            cpus: 1,
            memory_mib: 1024,
            boot,
            disks: Vec::new(),
            forwards: Vec::new(),
            isolated: true,
            clock: None,
            extra: Vec::new(),
        }
    }

    pub fn cpus(mut self, cpus: u32) -> MachineSpec {
        self.cpus = cpus;
        self
    }

    pub fn memory_mib(mut self, memory_mib: u64) -> MachineSpec {
        self.memory_mib = memory_mib;
        self
    }

    pub fn disk(mut self, disk: Disk) -> MachineSpec {
        self.disks.push(disk);
        self
    }

    pub fn nbd(self, disk: &NbdDisk) -> MachineSpec {
        self.disk(Disk::Nbd { socket: disk.socket().to_owned() })
    }

    /// Forwards a free port of the host to the guest's port.
    pub fn forward(mut self, guest: u16) -> Result<MachineSpec, Error> {
        self.forwards.push(Forward { host: free_port()?, guest });
        Ok(self)
    }

    pub fn isolated(mut self, isolated: bool) -> MachineSpec {
        self.isolated = isolated;
        self
    }

    pub fn clock(mut self, clock: impl Into<String>) -> MachineSpec {
        self.clock = Some(clock.into());
        self
    }
}
