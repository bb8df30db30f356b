//! Volumes by label: real file systems in plain files that stand for block devices. Mounting them is for tests of whole machines.

use std::fs;
use std::process::Command;

use super::*;

/// A machine with these block devices.
struct Devices {
    directory: tempfile::TempDir,
}

impl Devices {
    fn new() -> Devices {
        Devices { directory: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    /// The file of a new device.
    fn add(&self, name: &str) -> PathBuf {
        let sysfs = self.root().path("/sys/class/block").join(name.replace('/', "!"));
        fs::create_dir_all(&sysfs).unwrap();
        fs::write(sysfs.join("size"), "131072\n").unwrap();
        let path = device(&self.root(), name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        path
    }

    fn find(&self, label: &str) -> Option<(String, FileSystem)> {
        find(&self.root(), label).unwrap()
    }
}

fn run(command: &mut Command) {
    let ended = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; make setup installs it"));
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

fn mkfs_fat(path: &Path, size: u64, options: &[&str]) {
    fs::File::create(path).unwrap().set_len(size).unwrap();
    run(Command::new("/usr/sbin/mkfs.fat").args(options).arg(path));
}

const MIB: u64 = 1 << 20;

#[test]
fn fat_of_all_sizes() {
    for (bits, size) in [("12", 2 * MIB), ("16", 32 * MIB), ("32", 64 * MIB)] {
        let devices = Devices::new();
        mkfs_fat(&devices.add("vda"), size, &["-F", bits, "-n", "OTHER"]);
        mkfs_fat(&devices.add("vdb"), size, &["-F", bits, "-n", "CIDATA"]);
        assert_eq!(devices.find("cidata"), Some(("vdb".to_owned(), FileSystem::Fat)), "FAT{bits}");
        assert_eq!(devices.find("config-2"), None);
    }
}

#[test]
fn a_label_in_the_root_directory_only() {
    for (bits, size) in [("16", 32 * MIB), ("32", 64 * MIB)] {
        let devices = Devices::new();
        let path = devices.add("sdb1");
        mkfs_fat(&path, size, &["-F", bits]);
        assert_eq!(devices.find("config-2"), None);
        run(Command::new("mlabel").arg("-i").arg(&path).arg("::CONFIG-2").env("MTOOLS_SKIP_CHECK", "1"));
        // mlabel writes both; others write the directory only.
        let mut bytes = fs::read(&path).unwrap();
        let at = if bits == "32" { 71 } else { 43 };
        bytes[at..at + 11].copy_from_slice(b"NO NAME    ");
        fs::write(&path, bytes).unwrap();
        assert_eq!(devices.find("config-2"), Some(("sdb1".to_owned(), FileSystem::Fat)), "FAT{bits}");
    }
}

/// The first sectors of an ISO 9660 file system, as ECMA-119 has them: what the label is read from.
fn iso(label: &str) -> Vec<u8> {
    let mut image = vec![0; 40 * 2048];
    let descriptor = &mut image[16 * 2048..17 * 2048];
    descriptor[0] = 1;
    descriptor[1..6].copy_from_slice(b"CD001");
    descriptor[6] = 1;
    descriptor[40..72].fill(b' ');
    descriptor[40..40 + label.len()].copy_from_slice(label.as_bytes());
    image
}

#[test]
fn the_first_device_with_the_label_is_taken() {
    let devices = Devices::new();
    for (name, label) in [("sr0", "CORTEN"), ("sr1", "cidata"), ("vdc", "cidata"), ("cciss/c0d1", "config-2")] {
        fs::write(devices.add(name), iso(label)).unwrap();
    }
    assert_eq!(devices.find("cidata"), Some(("sr1".to_owned(), FileSystem::Iso9660)));
    assert_eq!(devices.find("CIDATA"), Some(("sr1".to_owned(), FileSystem::Iso9660)));
    assert_eq!(devices.find("config-2"), Some(("cciss/c0d1".to_owned(), FileSystem::Iso9660)));
    assert_eq!(devices.find("cidat"), None);
}

#[test]
fn a_device_without_a_medium_or_a_node_is_no_obstacle() {
    let devices = Devices::new();
    fs::remove_file(devices.add("loop0")).unwrap();
    fs::write(devices.root().path("/sys/class/block/loop0/size"), "0\n").unwrap();
    fs::remove_file(devices.add("sda")).unwrap();
    fs::write(devices.add("sdb"), b"").unwrap();
    fs::write(devices.add("sdc"), iso("cidata")).unwrap();
    assert_eq!(devices.find("cidata"), Some(("sdc".to_owned(), FileSystem::Iso9660)));
    assert_eq!(find(&Root::new("/nowhere"), "cidata").unwrap(), None);
}

#[test]
fn files_come_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("b"), "2").unwrap();
    assert_eq!(contents(directory.path(), "/dev/sr0", &["a", "b"]).unwrap(), [None, Some(b"2".to_vec())]);
    fs::create_dir(directory.path().join("a")).unwrap();
    let error = contents(directory.path(), "/dev/sr0", &["a", "b"]).unwrap_err();
    assert_eq!(error.to_string(), "reading a on /dev/sr0");
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let devices = Devices::new();
    fs::write(devices.add("sr0"), iso("cidata")).unwrap();
    // A plain file is no block device.
    let error = read(&devices.root(), &Wanted { label: "cidata", files: &["user-data"] }).unwrap_err();
    assert_eq!(error.to_string(), "mounting /dev/sr0 (iso9660) read-only");
    assert_eq!(read(&devices.root(), &Wanted { label: "config-2", files: &["user-data"] }).unwrap(), None);
}
