//! The partitions of the disk that was booted, found by their labels on that very disk: another one may carry Corten as well.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use machine::Root;
use machine::disk::{Partition, Slot};

use super::esp::Esp;
use crate::failpoint::Failpoints;
use crate::install::efi::{self, Place};

#[derive(Debug, Clone)]
pub struct Disk {
    root: Root,
    /// `vda`
    name: String,
}

impl Disk {
    /// `device` as [`machine::protocol::BootFacts`] has it: `/dev/vda`.
    pub fn new(root: &Root, device: &str) -> Disk {
        Disk { root: root.clone(), name: device.trim_start_matches("/dev/").to_owned() }
    }

    /// The partition's device node.
    pub fn device(&self, partition: Partition) -> anyhow::Result<PathBuf> {
        let directory = self.root.path(&format!("/sys/class/block/{}", self.name));
        let looking = || format!("looking for partition {} on {}", partition.label(), self.name);
        // A partition's directory lies in that of its disk (sysfs, Documentation/ABI/testing/sysfs-block).
        for entry in fs::read_dir(&directory).with_context(looking)? {
            let path = entry.with_context(looking)?.path();
            let Ok(uevent) = fs::read_to_string(path.join("uevent")) else { continue };
            let field = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            if field("PARTNAME") == Some(partition.label()) {
                let name = field("DEVNAME").with_context(looking)?;
                return Ok(self.root.path(&format!("/dev/{name}")));
            }
        }
        Err(anyhow!("it is not there")).with_context(looking)
    }

    /// Has the firmware start this disk again for as long as an image that it cannot load is tried so often.
    pub fn tell_firmware(&self, tries: u32) -> anyhow::Result<()> {
        let path = self.root.path(&format!("/sys/class/block/{}/queue/logical_block_size", self.name));
        let reading = || format!("reading {}", path.display());
        let sector_bytes = fs::read_to_string(&path).with_context(reading)?.trim().parse().with_context(reading)?;
        efi::register(&self.root, &format!("/dev/{}", self.name), sector_bytes, tries, Place::WhereStarted)
    }

    pub fn root_device(&self, slot: Slot) -> anyhow::Result<PathBuf> {
        self.device(slot.root())
    }

    pub fn verity_device(&self, slot: Slot) -> anyhow::Result<PathBuf> {
        self.device(slot.verity())
    }

    pub fn esp(&self, failpoints: Failpoints) -> anyhow::Result<Esp> {
        let device = self.device(Partition::Esp)?;
        // Where a machine is played, a directory stands for the partition.
        let esp = if device.is_dir() { Esp::in_directory(device, failpoints) } else { Esp::on_partition(&self.root, device, failpoints) };
        Ok(esp)
    }
}

/// Size in bytes of a file or a block device.
pub fn size_of(path: &Path) -> io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_on_the_disk_that_was_booted() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        for (disk, part, label) in [("vda", "vda1", "ESP"), ("vda", "vda2", "ROOT-A"), ("vdb", "vdb1", "ROOT-B")] {
            let sys = root.path(&format!("/sys/class/block/{disk}/{part}"));
            fs::create_dir_all(&sys).unwrap();
            fs::write(sys.join("uevent"), format!("MAJOR=254\nDEVNAME={part}\nDEVTYPE=partition\nPARTNAME={label}\n")).unwrap();
        }
        fs::create_dir(root.path("/sys/class/block/vda/queue")).unwrap();
        let disk = Disk::new(&root, "/dev/vda");
        assert_eq!(disk.root_device(Slot::A).unwrap(), root.path("/dev/vda2"));
        let error = disk.root_device(Slot::B).unwrap_err();
        assert_eq!(format!("{error:#}"), "looking for partition ROOT-B on vda: it is not there");
        assert!(Disk::new(&root, "").device(Partition::Esp).is_err(), "a machine without a disk");
    }
}
