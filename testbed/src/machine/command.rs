//! A machine as QEMU's command line.

mod drives;

use std::path::Path;

use super::files;
use super::spec::{Boot, BootOrder, MachineSpec, NetworkBoot, TpmInterface, Watchdog};
use crate::Accelerator;
use crate::segment::{NIC_SOCKET, SWITCH_SOCKET};

/// Of Debian's package ipxe-qemu, where QEMU looks for it.
const IPXE: &str = "efi-virtio.rom";

/// QEMU's arguments. Paths of sockets are relative: QEMU runs in the machine's directory, whose path may be too long for an address.
pub fn arguments(spec: &MachineSpec, accelerator: Accelerator) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |arguments: &[&str]| out.extend(arguments.iter().map(|a| (*a).to_owned()));
    // q35: `-M microvm` hung in 2 of 6 boots.
    let secure_boot = matches!(&spec.boot, Boot::Firmware(firmware) if firmware.secure_boot);
    let chipset = if secure_boot { "q35,smm=on" } else { "q35" };
    add(&["-name", &spec.name, "-M", chipset, "-nodefaults", "-no-user-config", "-display", "none"]);
    add(accelerator.arguments());
    let cpus = if accelerator == Accelerator::Icount { 1 } else { spec.cpus };
    add(&["-smp", &cpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    match &spec.boot {
        Boot::Firmware(firmware) => {
            add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(&firmware.code))]);
            let variables = spec.variables.as_deref().unwrap_or(Path::new(files::FIRMWARE_VARIABLES));
            add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", escaped(variables))]);
            if firmware.secure_boot {
                // Only code in system management mode writes the variables.
                add(&["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            }
        }
        Boot::Kernel { kernel, initrd, command_line } => {
            add(&["-kernel", &kernel.to_string_lossy(), "-append", command_line]);
            if let Some(initrd) = initrd {
                add(&["-initrd", &initrd.to_string_lossy()]);
            }
        }
    }
    for argument in drives::arguments(spec) {
        add(&[&argument]);
    }
    add(&["-netdev", &netdev(spec), "-device", &network_card(spec)]);
    if let Some(address) = spec.segment {
        let ends = format!("local.type=unix,local.path={NIC_SOCKET},remote.type=unix,remote.path={SWITCH_SOCKET}");
        add(&["-netdev", &format!("dgram,id=net1,{ends}"), "-device", &format!("virtio-net-pci,netdev=net1,mac={address},romfile=")]);
    }
    add(&["-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"]);
    if let Some(Watchdog::I6300esb) = spec.watchdog {
        add(&["-device", "i6300esb", "-action", "watchdog=reset"]);
    }
    if let Some(tpm) = &spec.tpm {
        let device = match tpm.interface {
            TpmInterface::Crb => "tpm-crb,tpmdev=tpm0",
            TpmInterface::Tis => "tpm-tis,tpmdev=tpm0",
        };
        add(&["-chardev", &format!("socket,id=tpm,path={}", files::TPM_SOCKET), "-tpmdev", "emulator,id=tpm0,chardev=tpm"]);
        add(&["-device", device]);
    }
    let console = format!("socket,id=console,path={},server=on,wait=off,logfile={}", files::CONSOLE_SOCKET, files::CONSOLE_LOG);
    add(&["-chardev", &format!("{console},logappend=on"), "-serial", "chardev:console"]);
    add(&["-qmp", &format!("unix:{},server=on,wait=off", files::QMP_SOCKET), "-pidfile", files::PID]);
    if let Some(clock) = &spec.clock {
        add(&["-rtc", &format!("base={clock}")]);
    }
    out.extend(spec.extra.iter().cloned());
    out
}

fn netdev(spec: &MachineSpec) -> String {
    let restrict = if spec.isolated { ",restrict=on" } else { "" };
    let boot = spec.network_boot.as_ref().map(|NetworkBoot { folder, file }| format!(",tftp={},bootfile={file}", escaped(folder)));
    let forwards: String = spec.forwards.iter().map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest)).collect();
    format!("user,id=net0{restrict}{}{forwards}", boot.unwrap_or_default())
}

/// Without a program of its own, unless it is to boot from: the firmware would try that before it gives up.
fn network_card(spec: &MachineSpec) -> String {
    let program = match (&spec.network_boot, &spec.boot_order) {
        (None, _) => String::new(),
        (Some(_), BootOrder::Variables) => IPXE.to_owned(),
        (Some(_), _) => format!("{IPXE},bootindex={}", spec.drives.len()),
    };
    format!("virtio-net-pci,netdev=net0,romfile={program}")
}

pub(super) use drives::overlay;

/// QEMU's option syntax writes a comma twice.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::super::{Device, Disk, DiskFormat, Drive, Forward, HardwareAddress};
    use super::*;
    use crate::Firmware;
    use std::path::PathBuf;

    fn firmware() -> Firmware {
        let (code, variables) = ("/usr/share/OVMF/OVMF_CODE_4M.fd".into(), "/usr/share/OVMF/OVMF_VARS_4M.fd".into());
        Firmware { code, variables, secure_boot: false }
    }

    fn assert_golden(name: &str, spec: &MachineSpec) {
        let text = arguments(spec, Accelerator::Tcg).join("\n") + "\n";
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        if std::env::var_os("CORTEN_GOLDEN").is_some() {
            std::fs::write(&golden, &text).expect("write the golden");
        }
        assert_eq!(text, std::fs::read_to_string(&golden).expect("the golden"), "if that is meant, run `make golden`");
    }

    #[test]
    fn the_command_line_of_a_local_cluster() {
        let base = PathBuf::from("/images/disk.qcow2");
        let mut spec = MachineSpec::new("corten", Boot::Firmware(firmware())).cpus(2).memory_mib(3072);
        spec = spec.disk(Disk::Overlay { base, format: DiskFormat::Qcow2, size_bytes: Some(20 << 30) });
        spec.forwards = vec![Forward { host: 40001, guest: 50000 }, Forward { host: 40002, guest: 6443 }];
        spec.segment = Some(HardwareAddress([0x52, 0x54, 0x00, 0x05, 0x00, 0x0a]));
        assert_golden("cluster.txt", &spec);
    }

    #[test]
    fn the_command_line_of_an_installation_under_secure_boot() {
        let firmware = Firmware { code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd".into(), secure_boot: true, ..firmware() };
        let mut target = Drive::new(Disk::Nbd { socket: "/run/disk/nbd.sock".into() }).serial("TARGET");
        target.sector_bytes = 4096;
        let spec = MachineSpec::new("install", Boot::Firmware(firmware))
            .drive(target)
            .drive(Drive::optical("/images/corten.iso"))
            .boot_order(BootOrder::Drives(vec![1, 0]))
            .variables("/machines/install/variables.fd")
            .tpm(TpmInterface::Crb, None);
        assert_golden("install.txt", &spec);
    }

    #[test]
    fn the_command_line_of_a_server_that_remembers_what_it_boots() {
        let file = |path: &str| Disk::File { path: path.into(), format: DiskFormat::Raw };
        let spec = MachineSpec::new("server", Boot::Firmware(firmware()))
            .drive(Drive::new(file("/a.raw")).device(Device::Sata { wwn: Some(0x5000_c500_0000_0001) }))
            .drive(Drive::new(file("/b.raw")).device(Device::Scsi { wwn: Some(0x5000_c500_0000_0002) }).sector_bytes(4096))
            .drive(Drive::new(file("/c.raw")).device(Device::Scsi { wwn: None }).serial("SECOND"))
            .drive(Drive::new(file("/d.raw")).device(Device::Nvme { wwn: Some(0x0025_3852_0000_0001) }))
            .drive(Drive::stick("/images/corten.iso"))
            .drive(Drive::optical("/seed.iso"))
            .drive(Drive::new(file("/seed.img")).read_only())
            .boot_order(BootOrder::Variables)
            .watchdog(None)
            .tpm(TpmInterface::Tis, Some("/machines/tpm".into()));
        assert_golden("server.txt", &spec);
    }

    #[test]
    fn every_network_is_restricted_unless_the_user_says_otherwise() {
        let mut spec = MachineSpec::new("m", Boot::Firmware(firmware()));
        assert_eq!(netdev(&spec), "user,id=net0,restrict=on");
        (spec.isolated, spec.forwards) = (false, vec![Forward { host: 1, guest: 2 }]);
        assert_eq!(netdev(&spec), "user,id=net0,hostfwd=tcp:127.0.0.1:1-:2");
    }

    #[test]
    fn the_network_is_booted_from_after_the_drives() {
        let mut spec = MachineSpec::new("m", Boot::Firmware(firmware())).disk(Disk::Nbd { socket: "/a".into() });
        assert_eq!(network_card(&spec), "virtio-net-pci,netdev=net0,romfile=");
        spec.network_boot = Some(NetworkBoot { folder: "/a,b".into(), file: "boot.ipxe".into() });
        assert_eq!(netdev(&spec), "user,id=net0,restrict=on,tftp=/a,,b,bootfile=boot.ipxe");
        assert_eq!(network_card(&spec), "virtio-net-pci,netdev=net0,romfile=efi-virtio.rom,bootindex=1");
        spec.boot_order = BootOrder::Variables;
        assert_eq!(network_card(&spec), "virtio-net-pci,netdev=net0,romfile=efi-virtio.rom");
    }

    #[test]
    fn counted_time_has_one_cpu_and_a_kernel_needs_no_firmware() {
        let boot = Boot::Kernel { kernel: "/k".into(), initrd: Some("/i".into()), command_line: "console=ttyS0".into() };
        let spec = MachineSpec::new("m", boot).cpus(4).disk(Disk::Nbd { socket: "/a,b".into() }).clock("1970-01-01T00:00:00");
        let text = arguments(&spec, Accelerator::Icount).join(" ");
        assert!(text.contains("-icount shift=1,sleep=on") && text.contains("-smp 1 "));
        assert!(text.contains("-kernel /k -append console=ttyS0 -initrd /i") && !text.contains("pflash") && !text.contains("bootindex"));
        assert!(text.contains("cache=writeback,format=raw,discard=unmap,file=nbd+unix:///?socket=/a,,b"));
        assert!(text.contains("-rtc base=1970-01-01T00:00:00"));
    }
}
