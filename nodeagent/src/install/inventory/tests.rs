//! Disks as a directory in sysfs' place shows them.

use super::*;

fn write(root: &Root, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = root.path(SECTORS).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn disk(root: &Root, name: &str, gibibytes: u64, more: &[(&str, &[u8])]) {
    let size = (gibibytes << 21).to_string();
    let own: [(&str, &[u8]); 5] =
        [("size", size.as_bytes()), ("ro", b"0\n"), ("removable", b"0\n"), ("queue/logical_block_size", b"512\n"), ("device/uevent", b"")];
    for (file, content) in own.iter().chain(more) {
        write(root, &[(&format!("{name}/{file}"), content)]);
    }
}

#[test]
fn what_disks_say_of_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    disk(&root, "vda", 20, &[("serial", b"X1"), ("queue/rotational", b"1\n"), ("device/vendor", b"0x1af4\n"), ("dev", b"254:0\n")]);
    let nvme: [(&str, &[u8]); 4] = [
        ("device/serial", b"S4EVNX0M \n"),
        ("wwid", b"eui.0025388b710116a1\n"),
        ("device/model", b"Some SSD  \n"),
        ("queue/logical_block_size", b"4096\n"),
    ];
    disk(&root, "nvme0n1", 100, &nvme);
    let scsi: [(&str, &[u8]); 6] = [
        ("device/vpd_pg80", b"\0\x80\0\x08  Z1 \xff\0\0"),
        ("device/wwid", b"naa.5000c500a1b2c3d4\n"),
        ("ro", b"1\n"),
        ("removable", b"1\n"),
        ("sda1/partition", b"1\n"),
        ("sda1/uevent", b"DEVNAME=sda1\nPARTNAME=EFI system\n"),
    ];
    disk(&root, "sda", 1, &scsi);
    write(&root, &[("sda/sda2/partition", b"2\n"), ("sda2/partition", b"2\n"), ("sda2/size", b"7\n"), ("sda2/device/x", b"")]);
    disk(&root, "sr0", 1, &[]);
    disk(&root, "vdz", 0, &[]);
    write(&root, &[("loop0/size", b"100\n"), ("dm-0/size", b"100\n")]);

    let disks = read(&root, "").unwrap();

    let named: Vec<&str> = disks.iter().map(|disk| disk.path.as_str()).collect();
    assert_eq!(named, ["/dev/nvme0n1", "/dev/sda", "/dev/vda"]);
    let vda = Disk {
        path: "/dev/vda".to_owned(),
        serial: "X1".to_owned(),
        wwn: String::new(),
        model: String::new(),
        size_bytes: 20 << 30,
        sector_bytes: 512,
        kind: DiskType::Hdd,
        read_only: false,
        removable: false,
        holds: String::new(),
        corten: false,
        used_as: String::new(),
    };
    assert_eq!(disks[2], vda);
    let (nvme, sda) = (&disks[0], &disks[1]);
    assert_eq!((nvme.serial.as_str(), nvme.wwn.as_str(), nvme.model.as_str()), ("S4EVNX0M", "eui.0025388b710116a1", "Some SSD"));
    assert_eq!((nvme.kind, nvme.sector_bytes), (DiskType::Nvme, 4096));
    assert_eq!((sda.serial.as_str(), sda.wwn.as_str(), sda.kind), ("Z1 \u{fffd}", "naa.5000c500a1b2c3d4", DiskType::Ssd));
    assert!(sda.read_only && sda.removable);
    assert_eq!(sda.holds, "partitions EFI system, partition 2");
}

#[test]
fn what_disks_hold_and_are_used_for() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    for (name, number) in [("vda", "254:0"), ("vdb", "254:16"), ("vdc", "254:32"), ("vdd", "254:48"), ("vde", "254:64")] {
        disk(&root, name, 10, &[("dev", number.as_bytes())]);
    }
    let corten: [(&str, &[u8]); 6] = [
        ("vda/vda1/partition", b"1"),
        ("vda/vda1/uevent", b"PARTNAME=ESP\n"),
        ("vda/vda2/partition", b"2"),
        ("vda/vda2/uevent", b"PARTNAME=ROOT-A\n"),
        ("vdb/vdb1/partition", b"1"),
        ("vdb/vdb1/dev", b"254:17\n"),
    ];
    write(&root, &corten);
    fs::create_dir_all(root.path(SECTORS).join("vdd/holders/dm-3")).unwrap();
    fs::create_dir_all(root.path("/dev")).unwrap();
    let mut ext4 = vec![0; HEAD_BYTES];
    ext4[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    fs::write(root.path("/dev/vde"), ext4).unwrap();
    fs::create_dir_all(root.path("/proc/self")).unwrap();
    let mounts = "30 25 254:17 / /mnt rw - ext4 /dev/vdb1 rw\n31 25 254:32 / /run/corten/medium ro - iso9660 /dev/vdc ro\n";
    fs::write(root.path("/proc/self/mountinfo"), mounts).unwrap();

    let told = |own: &str| -> Vec<(String, bool, String)> {
        read(&root, own).unwrap().into_iter().map(|disk| (disk.holds, disk.corten, disk.used_as)).collect()
    };
    let expected = [
        ("partitions ESP, ROOT-A", true, ""),
        ("partitions partition 1", false, "mounted on /mnt"),
        ("", false, "the installation medium"),
        ("", false, "part of dm-3"),
        ("an ext2, ext3 or ext4 file system", false, ""),
    ];
    assert_eq!(told(""), expected.map(|(holds, corten, used)| (holds.to_owned(), corten, used.to_owned())));
    assert_eq!(told("/dev/vda")[0].2, "this machine's disk");
}
