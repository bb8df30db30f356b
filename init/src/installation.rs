//! Which disk an installation may be laid out on: the answer to a request, decided by what sysfs and the mount table show.

use std::fs;
use std::io;
use std::path::Path;

use machine::Root;
use machine::disk::{self, BadDisk, Extent, Partition};
use machine::protocol::{BootFacts, Medium};

use crate::block::{self, Node};
use crate::gpt;
use crate::gpt::content::Content;
use crate::shutdown::mounts::Mounted;

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("device {device:?}: this machine was booted from its disk {booted}: boot the installation medium to install")]
    OwnDisk { device: String, booted: String },
    #[error("device {device:?}: the machine has taken {adopted} as its own disk by now")]
    Adopted { device: String, adopted: String },
    #[error("the image does not say which partitions a disk of its has: it is older than its installer")]
    NoPartitions,
    #[error("device {device:?}: there is no such disk; {}", expected(disks))]
    Unknown { device: String, disks: Vec<String> },
    #[error("device {device:?} is a partition; expected the whole disk: /dev/{disk}")]
    Partition { device: String, disk: String },
    #[error("device {0:?} is the installation medium")]
    Medium(String),
    #[error("device {device:?} is in use: {} is mounted on {target}", .by)]
    Mounted { device: String, by: String, target: String },
    #[error("device {device:?} cannot be used: {reason}")]
    BadDisk { device: String, reason: BadDisk },
    #[error("device {device:?} holds {content}; ask for it to be wiped if nothing of that is needed any more")]
    Holds { device: String, content: String },
    #[error("device {0:?} has no partition {1}: it is no disk that an installation has laid out")]
    NotLaidOut(String, &'static str),
    #[error("device {0:?}: the kernel does not show partition {1} of the new table")]
    NotShown(String, &'static str),
    #[error("read the disks that the kernel knows")]
    Sysfs(#[source] io::Error),
    #[error("device {0:?} is in use by the kernel: swap, RAID or the device mapper")]
    InUse(String),
    #[error(transparent)]
    Table(#[from] gpt::Error),
    #[error("have the kernel read the new partition table")]
    Kernel(#[source] io::Error),
}

fn expected(disks: &[String]) -> String {
    if disks.is_empty() { "the machine has none".to_owned() } else { format!("expected one of: {}", disks.join(", ")) }
}

/// A disk that may be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `vda`
    pub name: String,
    pub sector_size: u64,
    pub extents: Vec<Extent>,
}

/// Whether the machine may get another disk at all.
pub fn may_install(facts: &BootFacts, device: &str) -> Result<(), Refused> {
    let device = device.to_owned();
    match (facts.medium, facts.disk.as_str()) {
        (Medium::Disk, booted) => Err(Refused::OwnDisk { device, booted: booted.to_owned() }),
        (Medium::Iso | Medium::Network, "") => Ok(()),
        (Medium::Iso | Medium::Network, adopted) => Err(Refused::Adopted { device, adopted: adopted.to_owned() }),
    }
}

/// Looks at a disk from outside: nothing of its content is read.
pub fn candidate(root: &Root, mounts: &[Mounted], device: &str, partitions: &[Partition]) -> Result<Candidate, Refused> {
    if partitions.is_empty() {
        return Err(Refused::NoPartitions);
    }
    let nodes = block::read(root).map_err(Refused::Sysfs)?;
    let node = whole_disk(root, &nodes, device)?;
    free_of_mounts(root, mounts, &nodes, node, device)?;
    let sector_size = block::sector_size(root, &node.name).map_err(Refused::Sysfs)?;
    let bad = |reason| Refused::BadDisk { device: device.to_owned(), reason };
    let extents = disk::layout(partitions, node.size_bytes, sector_size).map_err(bad)?;
    Ok(Candidate { name: node.name.clone(), sector_size, extents })
}

/// Whether what lies on a disk may be overwritten.
pub fn may_overwrite(content: Content, wipe: bool, device: &str) -> Result<(), Refused> {
    match content {
        Content::Nothing | Content::CutShort => Ok(()),
        Content::Other(_) if wipe => Ok(()),
        Content::Other(content) => Err(Refused::Holds { device: device.to_owned(), content }),
    }
}

/// The disk's node, if it is a whole disk.
pub fn whole_disk<'a>(root: &Root, nodes: &'a [Node], device: &str) -> Result<&'a Node, Refused> {
    let named = device.strip_prefix("/dev/").and_then(|name| nodes.iter().find(|node| node.name == name));
    if let Some(Node { disk: Some(disk), .. }) = named {
        return Err(Refused::Partition { device: device.to_owned(), disk: disk.clone() });
    }
    named.filter(|node| is_disk(root, node)).ok_or_else(|| {
        let disks = nodes.iter().filter(|node| is_disk(root, node)).map(|node| node.device().display().to_string()).collect();
        Refused::Unknown { device: device.to_owned(), disks }
    })
}

/// Hardware that can be written to: no loop device, no device of the device mapper, no RAM disk, no optical drive.
fn is_disk(root: &Root, node: &Node) -> bool {
    let attribute = |name: &str| root.path(&format!("/sys/class/block/{}/{name}", node.name));
    let writable = fs::read_to_string(attribute("ro")).is_ok_and(|text| text.trim() == "0");
    node.disk.is_none() && node.size_bytes > 0 && writable && attribute("device").exists() && !node.name.starts_with("sr")
}

fn free_of_mounts(root: &Root, mounts: &[Mounted], nodes: &[Node], disk: &Node, device: &str) -> Result<(), Refused> {
    let parts = nodes.iter().filter(|node| node.name == disk.name || node.disk.as_ref() == Some(&disk.name));
    for node in parts {
        // A device that has vanished since is mounted nowhere.
        let Ok(number) = block::number(root, &node.name) else { continue };
        let Some(mount) = mounts.iter().find(|mount| mount.device == number) else { continue };
        if mount.target == Path::new("/").join(root.medium().strip_prefix(root.directory()).unwrap_or(Path::new(""))) {
            return Err(Refused::Medium(device.to_owned()));
        }
        let (by, target) = (node.device().display().to_string(), mount.target.display().to_string());
        return Err(Refused::Mounted { device: device.to_owned(), by, target });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::mounts;
    use std::os::unix::fs::symlink;

    const GIB: u64 = 1 << 30;
    const WORKER: [Partition; 4] = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];

    /// A machine with these block devices: name, whether there is hardware behind it, gibibytes.
    fn machine(devices: &[(&str, bool, u64)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        fs::create_dir_all(root.path("/sys/class/block")).expect("make");
        for (index, (name, hardware, gibibytes)) in devices.iter().enumerate() {
            // Partitions are given as disk/partition.
            let place = root.path("/sys/devices").join(name);
            fs::create_dir_all(place.join("queue")).expect("make");
            let kind = if name.contains('/') { "partition" } else { "disk" };
            let files = [
                ("uevent", format!("DEVTYPE={kind}\n")),
                ("size", format!("{}\n", gibibytes * GIB / 512)),
                ("ro", "0\n".to_owned()),
                ("dev", format!("8:{index}\n")),
                ("queue/logical_block_size", "512\n".to_owned()),
            ];
            files.iter().for_each(|(file, text)| fs::write(place.join(file), text).expect("write"));
            if *hardware {
                fs::create_dir(place.join("device")).expect("make");
            }
            let leaf = place.file_name().expect("a name").to_owned();
            symlink(&place, root.path("/sys/class/block").join(leaf)).expect("link");
        }
        (directory, root)
    }

    fn refusal(root: &Root, mounts: &str, device: &str) -> String {
        candidate(root, &mounts::all(mounts), device, &WORKER).expect_err("must be refused").to_string()
    }

    #[test]
    fn only_whole_free_disks_that_are_large_enough_are_candidates() {
        let devices =
            [("sda", true, 8), ("sda/sda1", false, 1), ("sdb", true, 100), ("sdc", true, 4), ("sr0", true, 1), ("loop0", false, 100)];
        let (_directory, root) = machine(&devices);
        let mounts = "31 25 8:4 / /run/corten/medium ro - iso9660 /dev/sr0 ro\n32 25 8:1 / /mnt ro - ext4 /dev/sda1 ro\n";

        let found = candidate(&root, &mounts::all(mounts), "/dev/sdb", &WORKER).expect("is one");
        assert_eq!((found.name.as_str(), found.sector_size), ("sdb", 512));
        assert_eq!(found.extents.last().map(|last| last.size), Some(100 * GIB - 3 * GIB - (2 << 20)));

        for device in ["/dev/vda", "sdb", "/dev/sr0", "/dev/loop0", "/dev/", "/dev/../sdb", ""] {
            let text = refusal(&root, mounts, device);
            assert!(text.ends_with("there is no such disk; expected one of: /dev/sda, /dev/sdb, /dev/sdc"), "{text}");
        }
        assert_eq!(refusal(&root, mounts, "/dev/sda1"), "device \"/dev/sda1\" is a partition; expected the whole disk: /dev/sda");
        assert_eq!(refusal(&root, mounts, "/dev/sda"), "device \"/dev/sda\" is in use: /dev/sda1 is mounted on /mnt");
        let small = refusal(&root, mounts, "/dev/sdc");
        assert!(small.contains("it has 4096 MiB; the partitions need 5122 MiB, which is 1026 MiB more"), "{small}");
        let stick = "31 25 8:2 / /run/corten/medium ro - iso9660 /dev/sdb ro\n";
        assert_eq!(refusal(&root, stick, "/dev/sdb"), "device \"/dev/sdb\" is the installation medium");
        assert!(matches!(candidate(&root, &[], "/dev/sdb", &[]), Err(Refused::NoPartitions)));
        let (_other, empty) = machine(&[("loop0", false, 1)]);
        assert!(refusal(&empty, "", "/dev/sda").ends_with("there is no such disk; the machine has none"));
        fs::write(root.path("/sys/devices/sdb/ro"), "1\n").expect("write");
        assert!(refusal(&root, "", "/dev/sdb").contains("no such disk"));
    }

    #[test]
    fn what_is_on_a_disk_is_overwritten_only_with_leave() {
        for content in [Content::Nothing, Content::CutShort] {
            may_overwrite(content, false, "/dev/sda").expect("nobody's");
        }
        let other = || Content::Other("a GPT with EFI, Windows".into());
        may_overwrite(other(), true, "/dev/sda").expect("with leave");
        let text = may_overwrite(other(), false, "/dev/sda").expect_err("without").to_string();
        assert!(text.starts_with("device \"/dev/sda\" holds a GPT with EFI, Windows; ask for it to be wiped"), "{text}");
    }

    #[test]
    fn a_machine_that_has_a_disk_gets_no_other() {
        let booted = |medium, disk: &str| BootFacts { medium, disk: disk.into(), ..BootFacts::default() };
        may_install(&booted(Medium::Iso, ""), "/dev/sda").expect("has none");
        may_install(&booted(Medium::Network, ""), "/dev/sda").expect("has none");
        let text = may_install(&booted(Medium::Disk, "/dev/vda"), "/dev/sda").expect_err("has one").to_string();
        assert!(text.contains("booted from its disk /dev/vda"), "{text}");
        let text = may_install(&booted(Medium::Iso, "/dev/vda"), "/dev/sda").expect_err("has one").to_string();
        assert!(text.contains("has taken /dev/vda"), "{text}");
    }
}
