//! The disk of a machine that is played: files for the partitions of both slots, a directory for the ESP.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ::tests::place;
use anyhow::{Context, ensure};
use machine::Root;
use machine::disk::{Partition, Slot};
use machine::protocol::{BootFacts, ImageFacts};
use serde_json::Value;
use update::{PartName, UpdateFile};

use crate::api::agent::Played;

/// What is compared and counted.
const BLOCK_BYTES: usize = 4096;

#[derive(Debug)]
pub struct PlayedDisk {
    root: Root,
}

/// What the slot that is not running holds: a copy.
#[derive(Debug)]
pub struct Held {
    folder: tempfile::TempDir,
}

impl PlayedDisk {
    /// With `image` in slot A, running, and nothing in slot B. Whatever the image is, the machine calls it one of this profile.
    pub fn lay_out(folder: &Path, image: &UpdateFile, profile: &str) -> anyhow::Result<(PlayedDisk, Played)> {
        let disk = PlayedDisk { root: Root::new(folder) };
        let partitions = [Partition::Esp, Slot::A.root(), Slot::A.verity(), Slot::B.root(), Slot::B.verity()];
        for (index, partition) in partitions.into_iter().enumerate() {
            let name = format!("vda{}", index + 1);
            let sys = disk.root.path(&format!("/sys/class/block/vda/{name}"));
            fs::create_dir_all(&sys)?;
            fs::write(sys.join("uevent"), format!("DEVNAME={name}\nPARTNAME={}\n", partition.label()))?;
        }
        for directory in ["loader/entries", "corten"] {
            fs::create_dir_all(disk.esp().join(directory))?;
        }
        for slot in Slot::ALL {
            let [root, verity, _] = disk.places(slot);
            File::create(root)?.set_len(slot.root().size_bytes())?;
            File::create(verity)?.set_len(slot.verity().size_bytes())?;
        }
        for (part, place) in PartName::ALL.into_iter().zip(disk.places(Slot::A)) {
            let mut file = File::options().write(true).create(true).truncate(false).open(&place)?;
            image.copy_part(part, &mut file).with_context(|| format!("filling {}", place.display()))?;
        }
        let entry = format!("title Corten 0.0.1 ({profile})\nversion 1\nsort-key corten\nefi /corten/a.efi\n");
        fs::write(disk.esp().join("loader/entries/corten-a.conf"), entry)?;
        let key = fs::read_to_string(place::update_key().with_extension("pub")).context("make image makes the key of updates")?;
        let keys = disk.root.update_keys();
        fs::create_dir_all(keys.parent().context("a folder of keys")?)?;
        fs::write(keys, format!(r#"{{"threshold": 1, "keys": ["{}"]}}"#, key.trim()))?;
        let played = Played {
            image: ImageFacts {
                version: "0.0.1".to_owned(),
                profile: profile.to_owned(),
                architecture: "x86_64".to_owned(),
                kubernetes: String::new(),
                etcd: String::new(),
                built_at: 0,
                partitions: Vec::new(),
            },
            boot: BootFacts {
                boot_id: "00000000-0000-0000-0000-000000000000".to_owned(),
                disk: "/dev/vda".to_owned(),
                slot: Some(Slot::A),
                root_hash: image.manifest().peek().root_hash.to_string(),
                ..BootFacts::default()
            },
        };
        Ok((disk, played))
    }

    fn esp(&self) -> PathBuf {
        self.root.path("/dev/vda1")
    }

    /// Root, verity and UKI.
    fn places(&self, slot: Slot) -> [PathBuf; 3] {
        let (root, verity) = if slot == Slot::A { ("/dev/vda2", "/dev/vda3") } else { ("/dev/vda4", "/dev/vda5") };
        [self.root.path(root), self.root.path(verity), self.esp().join(format!("corten/{}.efi", slot.name()))]
    }

    /// To compare with later.
    pub fn other_slot(&self) -> anyhow::Result<Held> {
        let folder = tempfile::tempdir_in(crate::report::directory())?;
        for (index, place) in self.places(Slot::B).into_iter().enumerate() {
            let copy = folder.path().join(index.to_string());
            if place.exists() {
                ::tests::program::printed(std::process::Command::new("cp").arg("--sparse=always").args([&place, &copy]))?;
            } else {
                File::create(copy)?;
            }
        }
        Ok(Held { folder })
    }

    /// Bytes of the blocks in which the slot differs from what it held before.
    pub fn differing(&self, before: &Held) -> anyhow::Result<u64> {
        let mut blocks = 0;
        for (index, place) in self.places(Slot::B).into_iter().enumerate() {
            let [old, new] = [File::open(before.folder.path().join(index.to_string()))?, File::open(&place)?];
            let length = new.metadata()?.len();
            let (mut one, mut other) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
            for offset in (0..length).step_by(BLOCK_BYTES) {
                let [one, other] = [(&old, &mut one), (&new, &mut other)].map(|(file, buffer)| block(file, offset, buffer));
                blocks += u64::from(one? != other?);
            }
        }
        Ok(blocks * BLOCK_BYTES as u64)
    }

    /// As the newest record of an upgrade has it.
    pub fn written_bytes(&self) -> anyhow::Result<u64> {
        let newest = |number: u64| self.root.upgrade_records().join(format!("{number}.json"));
        let number = (1..).take_while(|number| newest(*number).exists()).last().context("the agent made no record")?;
        let record: Value = serde_json::from_slice(&fs::read(newest(number))?)?;
        ensure!(record["phase"] == "ready", "the record is in phase {}; expected ready", record["phase"]);
        record["writtenBytes"].as_u64().context("no writtenBytes in the record")
    }
}

/// What there is of a block; nothing beyond the end.
fn block<'a>(file: &File, offset: u64, buffer: &'a mut [u8]) -> anyhow::Result<&'a [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(&buffer[..filled])
}
