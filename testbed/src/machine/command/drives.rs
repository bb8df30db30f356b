//! A machine's drives in QEMU's words: what holds the blocks (`-drive`), and the device in front of it (`-device`).

use super::super::spec::{Boot, BootOrder, MachineSpec};
use super::super::{Device, Disk, Drive};
use super::escaped;

/// Drives and the controllers that they need, in the order of the list.
pub fn arguments(spec: &MachineSpec) -> Vec<String> {
    let mut out = Vec::new();
    if spec.drives.iter().any(|drive| matches!(drive.device, Device::Scsi { .. })) {
        out.extend(["-device".to_owned(), "virtio-scsi-pci,id=scsi".to_owned()]);
    }
    if spec.drives.iter().any(|drive| drive.device == Device::Usb) {
        out.extend(["-device".to_owned(), "qemu-xhci,id=usb".to_owned()]);
    }
    let mut sata_port = 0;
    for (index, drive) in spec.drives.iter().enumerate() {
        out.extend(["-drive".to_owned(), content(index, drive)]);
        if matches!(drive.device, Device::Nvme { wwn: Some(_) }) {
            // A world wide name belongs to a namespace of its own, the serial number to the controller before it.
            out.extend(["-device".to_owned(), format!("nvme,id=nvme{index},serial={}", serial(index, drive))]);
        }
        let options = [sectors(drive), rank(spec, index)].concat();
        out.extend(["-device".to_owned(), device(index, drive, &mut sata_port) + &options]);
    }
    out
}

/// Killing QEMU loses nothing of a file, because the host keeps its page cache, so files do without the guest's flushes. An NBD disk gets them.
fn content(index: usize, drive: &Drive) -> String {
    let (file, cache) = match &drive.content {
        Disk::Overlay { .. } => (format!("format=qcow2,discard=unmap,file={}", overlay(index)), "unsafe"),
        Disk::File { path, format } => (format!("format={},discard=unmap,file={}", format.name(), escaped(path)), "unsafe"),
        Disk::Nbd { socket } => (format!("format=raw,discard=unmap,file=nbd+unix:///?socket={}", escaped(socket)), "writeback"),
    };
    let read_only = if drive.read_only { ",readonly=on" } else { "" };
    format!("if=none,id=disk{index},cache={cache},{file}{read_only}")
}

/// File of an overlay in the machine's directory.
pub fn overlay(index: usize) -> String {
    format!("disk{index}.qcow2")
}

fn device(index: usize, drive: &Drive, sata_port: &mut usize) -> String {
    let (disk, serial) = (format!("drive=disk{index}"), serial(index, drive));
    let name = |wwn: Option<u64>, property: &str| wwn.map(|wwn| format!(",{property}={wwn:#x}")).unwrap_or_default();
    let mut port = || {
        *sata_port += 1;
        *sata_port - 1
    };
    match drive.device {
        Device::Virtio => format!("virtio-blk-pci,{disk},serial={serial}"),
        Device::Scsi { wwn } => format!("scsi-hd,bus=scsi.0,{disk},serial={serial}{}", name(wwn, "wwn")),
        Device::Sata { wwn } => format!("ide-hd,bus=ide.{},{disk},serial={serial}{}", port(), name(wwn, "wwn")),
        Device::Nvme { wwn: None } => format!("nvme,{disk},serial={serial}"),
        Device::Nvme { wwn } => format!("nvme-ns,bus=nvme{index},{disk}{}", name(wwn, "eui64")),
        Device::Usb => format!("usb-storage,bus=usb.0,{disk},serial={serial},removable=on"),
        Device::Optical => format!("ide-cd,bus=ide.{},{disk},serial={serial}", port()),
    }
}

fn serial(index: usize, drive: &Drive) -> String {
    drive.serial.clone().unwrap_or_else(|| format!("corten{index}")).replace(',', ",,")
}

fn sectors(drive: &Drive) -> String {
    match drive.sector_bytes {
        512 => String::new(),
        bytes => format!(",logical_block_size={bytes},physical_block_size={bytes}"),
    }
}

/// The drive's rank in the order of booting. A kernel that QEMU loads has the first place itself; nothing else may name it.
fn rank(spec: &MachineSpec, index: usize) -> String {
    // OVMF reads the order up to the first device that it does not know, such as a namespace with a name (OvmfPkg's QemuBootOrderLib).
    if matches!(spec.drives[index].device, Device::Nvme { wwn: Some(_) }) {
        return String::new();
    }
    let rank = match (&spec.boot, &spec.boot_order) {
        (Boot::Kernel { .. }, _) | (_, BootOrder::Variables) => None,
        (Boot::Firmware(_), BootOrder::Listed) => Some(index),
        (Boot::Firmware(_), BootOrder::Drives(places)) => places.iter().position(|place| *place == index),
    };
    rank.map(|rank| format!(",bootindex={rank}")).unwrap_or_default()
}
