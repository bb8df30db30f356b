//! What a machine is made of.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drive::{Disk, Drive};
use crate::nbd::NbdDisk;
use crate::{Error, Firmware, free_port};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    pub name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub boot: Boot,
    /// In the order in which the guest sees those of one kind: vda, vdb, ...
    pub drives: Vec<Drive>,
    pub boot_order: BootOrder,
    pub network_boot: Option<NetworkBoot>,
    pub forwards: Vec<Forward>,
    /// Whether no packet of the guest leaves the host.
    pub isolated: bool,
    /// Hardware address of a second network card, on a [`crate::segment`] that knows this machine's directory. None: there is none.
    pub segment: Option<HardwareAddress>,
    /// The guest's clock at power-on (`2026-01-31T12:00:00`, UTC). None: the host's.
    pub clock: Option<String>,
    pub watchdog: Option<Watchdog>,
    pub tpm: Option<Tpm>,
    /// Where the firmware's variables are kept; made of the firmware's template if it is missing, so that removing it is how a machine
    /// loses them. None: in the machine's directory.
    pub variables: Option<PathBuf>,
    /// Further arguments of QEMU.
    pub extra: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// UEFI, from the drives in [`MachineSpec::boot_order`].
    Firmware(Firmware),
    /// A kernel that QEMU loads itself.
    Kernel { kernel: PathBuf, initrd: Option<PathBuf>, command_line: String },
}

/// What a boot server in the machine's network hands out (DHCP and TFTP; nothing of it leaves the host). The network card then brings iPXE,
/// and the firmware tries it after all drives that have a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkBoot {
    pub folder: PathBuf,
    /// The one of its files that iPXE begins with.
    pub file: String,
}

/// From what the firmware boots first. What it is not told of it tries afterwards, as its variables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootOrder {
    /// The drives as they are listed.
    Listed,
    /// These drives, by their places in the list.
    Drives(Vec<usize>),
    /// The firmware's variables alone decide, as on hardware. Where these name nothing yet, it tries all drives.
    Variables,
}

/// What resets a machine that no longer feeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    I6300esb,
}

/// A TPM 2.0, emulated by swtpm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    pub interface: TpmInterface,
    /// Directory of what it keeps when the power is off. None: in the machine's directory.
    pub state: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmInterface {
    /// Command response buffer, as newer machines have it.
    Crb,
    Tis,
}

/// A TCP port of the guest, reached at `127.0.0.1:<host>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

/// Of a network card: one segment must not have the same twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardwareAddress(pub [u8; 6]);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
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
    /// One CPU, 1 GiB, no drives, no boot server, a watchdog, no TPM, isolated.
    pub fn new(name: impl Into<String>, boot: Boot) -> MachineSpec {
        MachineSpec {
            name: name.into(),
            cpus: 1,
            memory_mib: 1024,
            boot,
            drives: Vec::new(),
            boot_order: BootOrder::Listed,
            network_boot: None,
            forwards: Vec::new(),
            isolated: true,
            segment: None,
            clock: None,
            watchdog: Some(Watchdog::I6300esb),
            tpm: None,
            variables: None,
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

    pub fn drive(mut self, drive: Drive) -> MachineSpec {
        self.drives.push(drive);
        self
    }

    /// A writable virtio disk.
    pub fn disk(self, disk: Disk) -> MachineSpec {
        self.drive(Drive::new(disk))
    }

    pub fn nbd(self, disk: &NbdDisk) -> MachineSpec {
        self.drive(Drive::nbd(disk))
    }

    pub fn boot_order(mut self, boot_order: BootOrder) -> MachineSpec {
        self.boot_order = boot_order;
        self
    }

    pub fn watchdog(mut self, watchdog: Option<Watchdog>) -> MachineSpec {
        self.watchdog = watchdog;
        self
    }

    /// A TPM whose state is kept in the directory, or in the machine's own.
    pub fn tpm(mut self, interface: TpmInterface, state: Option<PathBuf>) -> MachineSpec {
        self.tpm = Some(Tpm { interface, state });
        self
    }

    /// Keeps the firmware's variables in this file.
    pub fn variables(mut self, file: impl Into<PathBuf>) -> MachineSpec {
        self.variables = Some(file.into());
        self
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

    /// A second network card, on a segment.
    pub fn segment(mut self, address: HardwareAddress) -> MachineSpec {
        self.segment = Some(address);
        self
    }

    pub fn clock(mut self, clock: impl Into<String>) -> MachineSpec {
        self.clock = Some(clock.into());
        self
    }
}
