//! A machine that was booted from a medium, played on a temporary directory: files for the disk and its partitions, a directory for the ESP.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use machine::Root;
use machine::disk::{INSTALLING_MARK, INSTALLING_MARK_AT, Partition};
use machine::protocol::{BootFacts, ImageFacts, Medium};

use crate::config::Generations;
use crate::upgrade::played::{Image, SLOT_BYTES};

pub const LOADER: &[u8] = b"systemd-boot";
/// The firmware's own option, before any of ours.
pub const FIRMWARE_ORDER: [u8; 6] = [7, 0, 0, 0, 9, 0];
const DISK_BYTES: u64 = 20 << 30;
const PARTITIONS: [(Partition, &str); 4] =
    [(Partition::Esp, "vda1"), (Partition::RootA, "vda2"), (Partition::RootAVerity, "vda3"), (Partition::State, "vda6")];

pub struct Played {
    directory: tempfile::TempDir,
    pub image: Image,
}

impl Played {
    /// With one disk of 20 GiB, laid out, and firmware variables.
    pub fn new() -> Played {
        let played = Played { directory: tempfile::tempdir().unwrap(), image: Image::new("0.1.0") };
        played.write("/dev/console", b"");
        played.add_disk("vda", DISK_BYTES);
        for (number, (partition, name)) in (1..).zip(PARTITIONS) {
            let uevent = format!("DEVNAME={name}\nPARTNAME={}\nPARTUUID=c12a7328-f81f-11d2-ba4b-00a0c93ec93b\n", partition.label());
            for (file, text) in [("uevent", uevent), ("partition", format!("{number}")), ("start", "2048".into()), ("size", "9".into())] {
                played.write(&format!("/sys/class/block/vda/{name}/{file}"), text.as_bytes());
            }
            match partition {
                Partition::Esp => fs::create_dir_all(played.device(partition)).unwrap(),
                _ => fs::write(played.device(partition), vec![0; SLOT_BYTES as usize]).unwrap(),
            }
        }
        let image = ImageFacts {
            version: played.image.version.clone(),
            profile: played.image.profile.clone(),
            architecture: "x86_64".to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            built_at: 0,
            partitions: Partition::ALL.to_vec(),
        };
        played.write("/usr/share/corten/image.json", &serde_json::to_vec(&image).unwrap());
        let files = [("root.erofs", &played.image.root), ("root.verity", &played.image.verity), ("uki.efi", &played.image.uki)];
        for (name, content) in files.into_iter().chain([("systemd-bootx64.efi", &LOADER.to_vec())]) {
            played.write(&format!("/run/corten/medium/corten/{name}"), content);
        }
        played.write(&played.variable("BootOrder"), &FIRMWARE_ORDER);
        played
    }

    /// A disk without partitions, with the mark of an installation under way.
    pub fn add_disk(&self, name: &str, bytes: u64) {
        let place = |file: &str| format!("/sys/class/block/{name}/{file}");
        for (file, text) in [("size", (bytes / 512).to_string()), ("ro", "0".to_owned()), ("queue/logical_block_size", "512".to_owned())] {
            self.write(&place(file), text.as_bytes());
        }
        self.write(&place("device/uevent"), b"");
        let mut head = vec![0; 1 << 20];
        head[INSTALLING_MARK_AT as usize..][..INSTALLING_MARK.len()].copy_from_slice(INSTALLING_MARK);
        self.write(&format!("/dev/{name}"), &head);
    }

    pub fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    pub fn facts(&self) -> BootFacts {
        let root_hash = self.image.root_hash.to_string();
        BootFacts { boot_id: "this boot".to_owned(), medium: Medium::Iso, root_hash, ..BootFacts::default() }
    }

    fn device(&self, partition: Partition) -> PathBuf {
        let found = PARTITIONS.iter().find(|(known, _)| *known == partition).unwrap();
        self.root().path(&format!("/dev/{}", found.1))
    }

    pub fn variable(&self, name: &str) -> String {
        format!("/sys/firmware/efi/efivars/{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.root().path(path)).ok()
    }

    /// A file of the boot partition.
    pub fn on_esp(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.device(Partition::Esp).join(path)).ok()
    }

    /// What would have an installation begin anew.
    pub fn is_marked(&self) -> bool {
        let mut mark = [0; INSTALLING_MARK.len()];
        fs::File::open(self.root().path("/dev/vda")).unwrap().read_exact_at(&mut mark, INSTALLING_MARK_AT).unwrap();
        &mark == INSTALLING_MARK
    }

    /// Whether slot A and all that starts it, but the entry, are on the disk.
    pub fn is_filled(&self) -> bool {
        let starts = |partition, content: &[u8]| fs::read(self.device(partition)).unwrap().starts_with(content);
        starts(Partition::RootA, &self.image.root)
            && starts(Partition::RootAVerity, &self.image.verity)
            && self.on_esp("corten/a.efi").as_ref() == Some(&self.image.uki)
            && self.on_esp("EFI/BOOT/BOOTX64.EFI").as_deref() == Some(LOADER)
            && self.on_esp("EFI/systemd/systemd-bootx64.efi").as_deref() == Some(LOADER)
            && self.on_esp("loader/loader.conf").as_deref() == Some(machine::boot::LOADER_CONFIG.as_bytes())
    }

    /// Whether firmware and boot loader would start slot A.
    pub fn is_bootable(&self) -> bool {
        let entry = machine::boot::first_entry(&self.image.version, &self.image.profile);
        self.on_esp("loader/entries/corten-a.conf").as_deref() == Some(entry.as_bytes())
    }

    /// The config in force at the next boot, with its number.
    pub fn config(&self) -> Option<(u64, String)> {
        let generations = Generations::new(self.root().config_directory());
        let current = generations.current().unwrap()?.generation;
        Some((current, generations.document(current).unwrap()))
    }
}
