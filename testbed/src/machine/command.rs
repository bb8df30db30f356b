//! A machine as QEMU's command line.

use std::path::Path;

use super::files;
use super::spec::{Boot, Disk, Forward, Lifetime, MachineSpec};
use crate::Accelerator;

/// QEMU's arguments. Paths of sockets are relative: QEMU runs in the machine's directory, whose path may be too long for an address.
pub fn arguments(spec: &MachineSpec, accelerator: Accelerator, lifetime: Lifetime) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |arguments: &[&str]| out.extend(arguments.iter().map(|a| (*a).to_owned()));
    // q35: `-M microvm` hung in 2 of 6 boots.
    add(&["-name", &spec.name, "-M", "q35", "-nodefaults", "-no-user-config", "-display", "none"]);
    add(accelerator.arguments());
    let cpus = if accelerator == Accelerator::Icount { 1 } else { spec.cpus };
    add(&["-smp", &cpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    match &spec.boot {
        Boot::Firmware(firmware) => {
            add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(&firmware.code))]);
            add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", files::FIRMWARE_VARIABLES)]);
        }
        Boot::Kernel { kernel, initrd, command_line } => {
            add(&["-kernel", &kernel.to_string_lossy(), "-append", command_line]);
            if let Some(initrd) = initrd {
                add(&["-initrd", &initrd.to_string_lossy()]);
            }
        }
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        add(&["-drive", &drive(index, disk)]);
        // A kernel that QEMU loads has the first place in the order of booting; nothing else may name it.
        let order = if matches!(spec.boot, Boot::Firmware(_)) { format!(",bootindex={index}") } else { String::new() };
        add(&["-device", &format!("virtio-blk-pci,drive=disk{index},serial=corten{index}{order}")]);
    }
    add(&["-netdev", &netdev(spec.isolated, &spec.forwards), "-device", "virtio-net-pci,netdev=net0,romfile="]);
    add(&["-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"]);
    add(&["-device", "i6300esb", "-action", "watchdog=reset"]);
    let console = format!("socket,id=console,path={},server=on,wait=off,logfile={}", files::CONSOLE_SOCKET, files::CONSOLE_LOG);
    add(&["-chardev", &format!("{console},logappend=on"), "-serial", "chardev:console"]);
    add(&["-qmp", &format!("unix:{},server=on,wait=off", files::QMP_SOCKET), "-pidfile", files::PID]);
    if let Some(clock) = &spec.clock {
        add(&["-rtc", &format!("base={clock}")]);
    }
    if lifetime == Lifetime::Detached {
        add(&["-daemonize"]);
    }
    out.extend(spec.extra.iter().cloned());
    out
}

/// Killing QEMU loses nothing of a file, because the host keeps its page cache, so files do without the guest's flushes. An NBD disk gets them.
fn drive(index: usize, disk: &Disk) -> String {
    let (file, cache) = match disk {
        Disk::Overlay { .. } => (format!("format=qcow2,discard=unmap,file={}", overlay(index)), "unsafe"),
        Disk::File { path, format } => (format!("format={},discard=unmap,file={}", format.name(), escaped(path)), "unsafe"),
        Disk::Nbd { socket } => (format!("format=raw,discard=unmap,file=nbd+unix:///?socket={}", escaped(socket)), "writeback"),
    };
    format!("if=none,id=disk{index},cache={cache},{file}")
}

/// File of an overlay in the machine's directory.
pub(super) fn overlay(index: usize) -> String {
    format!("disk{index}.qcow2")
}

fn netdev(isolated: bool, forwards: &[Forward]) -> String {
    let restrict = if isolated { ",restrict=on" } else { "" };
    let forwards: String = forwards.iter().map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest)).collect();
    format!("user,id=net0{restrict}{forwards}")
}

/// QEMU's option syntax writes a comma twice.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::spec::DiskFormat;
    use super::*;
    use crate::Firmware;

    fn firmware() -> Boot {
        Boot::Firmware(Firmware { code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(), variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into() })
    }

    #[test]
    fn the_command_line_of_a_local_cluster() {
        let base = PathBuf::from("/images/disk.qcow2");
        let mut spec = MachineSpec::new("corten", firmware()).cpus(2).memory_mib(3072);
        spec = spec.disk(Disk::Overlay { base, format: DiskFormat::Qcow2, size_bytes: Some(20 << 30) });
        spec.forwards = vec![Forward { host: 40001, guest: 50000 }, Forward { host: 40002, guest: 6443 }];
        let text = arguments(&spec, Accelerator::Tcg, Lifetime::Detached).join("\n") + "\n";
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cluster.txt");
        if std::env::var_os("CORTEN_GOLDEN").is_some() {
            std::fs::write(&golden, &text).expect("write the golden");
        }
        assert_eq!(text, std::fs::read_to_string(&golden).expect("the golden"), "if that is meant, run `make golden`");
    }

    #[test]
    fn every_network_is_restricted_unless_the_user_says_otherwise() {
        assert_eq!(netdev(true, &[]), "user,id=net0,restrict=on");
        assert_eq!(netdev(false, &[Forward { host: 1, guest: 2 }]), "user,id=net0,hostfwd=tcp:127.0.0.1:1-:2");
    }

    #[test]
    fn counted_time_has_one_cpu_and_a_kernel_needs_no_firmware() {
        let boot = Boot::Kernel { kernel: "/k".into(), initrd: Some("/i".into()), command_line: "console=ttyS0".into() };
        let spec = MachineSpec::new("m", boot).cpus(4).disk(Disk::Nbd { socket: "/a,b".into() }).clock("1970-01-01T00:00:00");
        let text = arguments(&spec, Accelerator::Icount, Lifetime::Bounded(Duration::from_secs(1))).join(" ");
        assert!(text.contains("-icount shift=1,sleep=on") && text.contains("-smp 1 "));
        assert!(text.contains("-kernel /k -append console=ttyS0 -initrd /i") && !text.contains("pflash") && !text.contains("bootindex"));
        assert!(text.contains("cache=writeback,format=raw,discard=unmap,file=nbd+unix:///?socket=/a,,b"));
        assert!(text.contains("-rtc base=1970-01-01T00:00:00") && !text.contains("-daemonize"));
    }
}
