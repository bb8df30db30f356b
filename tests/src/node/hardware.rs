//! What a machine has besides the disk that a test boots it from.

use std::path::{Path, PathBuf};

use anyhow::Context;
use testbed::firmware::variables::{self, BootOption};
use testbed::nbd::NbdDisk;
use testbed::{Boot, BootOrder, Device, Drive, Firmware, MachineSpec, NetworkBoot, TpmInterface, Watchdog};

#[derive(Debug, Clone)]
pub struct Hardware {
    pub cpus: u32,
    pub memory_mib: u64,
    pub firmware: Firmware,
    /// Boots this in place of the firmware and what lies on drives.
    pub kernel: Option<Boot>,
    /// What the disk is behind.
    pub disk: Device,
    /// Further drives, after the disk: their places in [`Hardware::boot_order`] begin with 1.
    pub drives: Vec<Drive>,
    pub boot_order: BootOrder,
    /// A boot server in its network.
    pub network_boot: Option<NetworkBoot>,
    pub watchdog: Option<Watchdog>,
    /// Whether it has a TPM, which keeps its state from boot to boot.
    pub tpm: bool,
    /// The guest's clock at the next power-on (`2026-01-31T12:00:00`, UTC). None: the host's.
    pub clock: Option<String>,
    /// A word for the kernel's command line, which the UKI's stub takes from the firmware (SMBIOS, table 11).
    pub kernel_argument: Option<String>,
    /// Further arguments of QEMU.
    pub extra: Vec<String>,
    /// Keeps what the firmware remembers and what the TPM does.
    folder: PathBuf,
}

impl Hardware {
    /// Enough for a profile.
    pub fn of(profile: &str, folder: &Path) -> anyhow::Result<Hardware> {
        let kubernetes = profile != "bare";
        Ok(Hardware {
            cpus: if kubernetes { 2 } else { 1 },
            memory_mib: if kubernetes { 3072 } else { 1024 },
            firmware: Firmware::find()?,
            kernel: None,
            disk: Device::Virtio,
            drives: Vec::new(),
            boot_order: BootOrder::Listed,
            network_boot: None,
            watchdog: Some(Watchdog::I6300esb),
            tpm: false,
            clock: None,
            kernel_argument: None,
            extra: Vec::new(),
            folder: folder.to_owned(),
        })
    }

    /// Boots from this medium as long as it is in, and from the disk afterwards.
    pub fn insert(&mut self, medium: Drive) {
        self.drives.push(medium);
        self.boot_order = BootOrder::Drives(vec![self.drives.len(), 0]);
    }

    /// Takes all further drives out.
    pub fn remove_drives(&mut self) {
        self.drives.clear();
        self.boot_order = BootOrder::Listed;
    }

    /// Lets the firmware forget its boot options and all else, as a flat battery or another board does. The machine must be off.
    pub fn forget_variables(&self) -> anyhow::Result<()> {
        let path = self.variables();
        std::fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    /// The firmware's boot options, in their order. What a running machine has just written may be missing.
    pub fn boot_options(&self) -> anyhow::Result<Vec<BootOption>> {
        Ok(variables::boot_options(&variables::read(&self.variables())?))
    }

    /// The machine with this disk.
    pub(super) fn spec(&self, disk: &NbdDisk) -> MachineSpec {
        let boot = self.kernel.clone().unwrap_or_else(|| Boot::Firmware(self.firmware.clone()));
        let mut spec = MachineSpec::new("node", boot)
            .cpus(self.cpus)
            .memory_mib(self.memory_mib)
            .drive(Drive::nbd(disk).device(self.disk))
            .boot_order(self.boot_order.clone())
            .watchdog(self.watchdog)
            .variables(self.variables());
        spec.drives.extend(self.drives.iter().cloned());
        spec.network_boot.clone_from(&self.network_boot);
        spec.clock.clone_from(&self.clock);
        spec.extra.clone_from(&self.extra);
        if let Some(word) = &self.kernel_argument {
            spec.extra.extend(["-smbios".to_owned(), format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={word}")]);
        }
        if self.tpm { spec.tpm(TpmInterface::Crb, Some(self.folder.join("tpm"))) } else { spec }
    }

    fn variables(&self) -> PathBuf {
        self.folder.join("firmware-variables.fd")
    }
}

#[cfg(test)]
mod tests {
    use testbed::{Accelerator, arguments};

    use super::*;

    #[test]
    fn a_medium_is_booted_before_the_disk_until_it_is_taken_out() {
        let folder = tempfile::tempdir().expect("a directory");
        let disk = NbdDisk::empty_with_sectors(1 << 30, 4096).expect("a disk");
        let mut hardware = Hardware::of("bare", folder.path()).expect("OVMF (Debian: ovmf)");
        let devices = |hardware: &Hardware| {
            let all = arguments(&hardware.spec(&disk), Accelerator::Tcg);
            all.into_iter().filter(|argument| argument.contains("drive=disk")).collect::<Vec<_>>()
        };
        let alone = "virtio-blk-pci,drive=disk0,serial=corten0,logical_block_size=4096,physical_block_size=4096,bootindex=0";
        assert_eq!(devices(&hardware), [alone]);
        hardware.insert(Drive::optical("/corten.iso"));
        let both = devices(&hardware);
        assert!(both[0].ends_with("bootindex=1") && both[1].starts_with("ide-cd,") && both[1].ends_with("bootindex=0"), "{both:?}");
        hardware.remove_drives();
        assert_eq!(devices(&hardware), [alone]);
    }
}
