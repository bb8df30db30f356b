//! Variables on a directory in efivarfs' place.

use super::*;

fn machine() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    for (name, label, number, start) in [("nvme0n1p1", "ESP", 1, 2048), ("nvme0n1p2", "ROOT-A", 2, 2_099_200)] {
        let place = root.path("/sys/class/block/nvme0n1").join(name);
        fs::create_dir_all(&place).unwrap();
        let uevent = format!("DEVNAME={name}\nPARTN={number}\nPARTNAME={label}\n");
        for (file, text) in [("uevent", uevent), ("partition", number.to_string()), ("start", start.to_string())] {
            fs::write(place.join(file), text).unwrap();
        }
        fs::write(place.join("size"), "2097152\n").unwrap();
    }
    for sector_bytes in [512, 4096] {
        table(&root, sector_bytes);
    }
    (directory, root)
}

const GUID: [u8; 16] = *b"GUID-of-the-ESP.";

/// A header and a first entry at the places that sectors of this size give them: those of 512 and of 4096 bytes do not overlap.
fn table(root: &Root, sector_bytes: u64) {
    fs::create_dir_all(root.path("/dev")).unwrap();
    let disk = File::options().write(true).create(true).truncate(false).open(root.path("/dev/nvme0n1")).unwrap();
    let put = |bytes: &[u8], at: u64| disk.write_all_at(bytes, at).unwrap();
    put(b"EFI PART", sector_bytes);
    put(&[2, 0, 0, 0, 0, 0, 0, 0], sector_bytes + 72);
    put(&[128, 0, 0, 0], sector_bytes + 84);
    put(&GUID, 2 * sector_bytes + 16);
}

#[test]
fn guid_is_the_table_s() {
    let (_directory, root) = machine();
    for sector_bytes in [512, 4096] {
        assert_eq!(boot_partition(&root, "/dev/nvme0n1", sector_bytes).unwrap().guid, GUID);
    }
    fs::write(root.path("/dev/nvme0n1"), [0; 8192]).unwrap();
    let error = boot_partition(&root, "/dev/nvme0n1", 512).unwrap_err();
    assert!(format!("{error:#}").ends_with("no GPT"), "{error:#}");
}

#[test]
fn partition_is_told_in_the_disk_s_own_sectors() {
    let (_directory, root) = machine();
    let small = boot_partition(&root, "/dev/nvme0n1", 512).unwrap();
    assert_eq!((small.number, small.start, small.sectors), (1, 2048, 2_097_152));
    let large = boot_partition(&root, "/dev/nvme0n1", 4096).unwrap();
    assert_eq!((large.number, large.start, large.sectors), (1, 256, 262_144));
    fs::remove_dir_all(root.path("/sys/class/block/nvme0n1/nvme0n1p1")).unwrap();
    assert_eq!(boot_partition(&root, "/dev/nvme0n1", 512).unwrap_err().to_string(), "/dev/nvme0n1 has no partition ESP");
}

#[test]
fn variables_are_attributes_and_value() {
    let (_directory, root) = machine();
    let error = register(&root, "/dev/nvme0n1", 512, 2, Place::First).unwrap_err();
    assert!(format!("{error:#}").contains("efivars: No such file"), "{error:#}");
    let folder = root.path("/sys/firmware/efi/efivars");
    fs::create_dir_all(&folder).unwrap();
    let error = register(&root, "/dev/nvme0n1", 512, 2, Place::First).unwrap_err().to_string();
    assert!(error.contains("is empty: the machine was not started by UEFI"), "{error}");

    let file = |name: &str| folder.join(format!("{name}-{GLOBAL}"));
    fs::write(file("BootOrder"), [7, 0, 0, 0, 1, 0]).unwrap();
    fs::write(file("Boot0001"), [7, 0, 0, 0, 1, 0, 0, 0]).unwrap();
    fs::write(file("BootOptionSupport"), [6, 0, 0, 0, 3, 0, 0, 0]).unwrap();
    fs::write(folder.join("Boot0000-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"), "another vendor's").unwrap();
    for _ in 0..2 {
        register(&root, "/dev/nvme0n1", 512, 2, Place::First).unwrap();
        assert_eq!(fs::read(file("BootOrder")).unwrap(), [7, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0]);
        let option = fs::read(file("Boot0002")).unwrap();
        assert_eq!(option[..4], ATTRIBUTES);
        assert_eq!(option::description(&option[4..]).as_deref(), Some("Corten (2)"));
        assert_eq!(fs::read(file("Boot0001")).unwrap(), [7, 0, 0, 0, 1, 0, 0, 0]);
    }
    // More tries than options: they come where the disk's own are, behind what somebody put before them.
    fs::write(file("BootOrder"), [7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0]).unwrap();
    register(&root, "/dev/nvme0n1", 512, 3, Place::WhereStarted).unwrap();
    assert_eq!(fs::read(file("BootOrder")).unwrap(), [7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4, 0]);
    fs::write(file("BootOrder"), [7, 0, 0, 0, 1, 0]).unwrap();
    fs::write(file("BootCurrent"), [6, 0, 0, 0, 1, 0]).unwrap();
    register(&root, "/dev/nvme0n1", 512, 1, Place::WhereStarted).unwrap();
    assert_eq!(fs::read(file("BootOrder")).unwrap(), [7, 0, 0, 0, 0, 0, 2, 0, 1, 0]);
    assert!(!file("Boot0004").exists(), "surplus options go");
}
