//! The medium that one installs from: an ISO 9660 image for optical drives (El Torito, UEFI only) that is a disk with a GPT and an ESP when it
//! is written to a USB stick as it is. The firmware starts systemd-boot and the UKI from the ESP; stage 1 takes the root, and the installer
//! all that a slot needs, from the ISO 9660 file system.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use machine::disk::Partition;

use crate::{digest, esp, tools};

/// Volume label by which stage 1 finds the medium.
pub const LABEL: &str = "CORTEN";
/// The boot loader's entry by which stage 1 knows what was booted.
const ENTRY: &str = "loader/entries/corten-iso.conf";
/// Of the medium, in bytes (ECMA-119).
const SECTOR: u64 = 2048;
/// Least size of the ESP: a FAT32 has at least 65525 clusters, here of 512 bytes.
const LEAST_ESP: u64 = 40 << 20;

/// What goes onto the medium.
#[derive(Debug)]
pub struct Parts<'a> {
    /// systemd-boot, signed where images are.
    pub loader: &'a Path,
    /// As slots have it.
    pub uki: &'a Path,
    pub root: &'a Path,
    pub verity: &'a Path,
    /// Variables that systemd-boot enrols when the firmware is in setup mode, as name and content.
    pub enrolled: &'a [(String, Vec<u8>)],
    pub version: &'a str,
    pub profile: &'a str,
    pub root_hash: &'a str,
    /// Seconds since the epoch.
    pub date: u64,
}

impl Parts<'_> {
    fn entry(&self) -> String {
        format!("title Corten {} ({}), from this medium\nversion 1\nsort-key corten\nefi /corten/uki.efi\n", self.version, self.profile)
    }

    /// With keys to enrol there is a menu for a moment: systemd-boot enrols by itself in virtual machines only, because keys without those of
    /// a card's option ROM can keep real hardware from starting. There a person picks the entry "Enroll Secure Boot keys".
    fn loader_config(&self) -> String {
        if self.enrolled.is_empty() {
            return esp::LOADER_CONFIG.to_owned();
        }
        format!("{}secure-boot-enroll if-safe\n", esp::LOADER_CONFIG.replace("timeout 0\n", "timeout 5\n"))
    }
}

/// Makes the image. `scratch` is a folder for what is only needed meanwhile.
pub fn make(image: &Path, parts: &Parts<'_>, scratch: &Path) -> Result<()> {
    let making = || format!("making {}", image.display());
    let boot = scratch.join("iso-esp");
    make_esp(&boot, parts, scratch)?;
    let mut command = tools::XORRISO.command()?;
    command.env("SOURCE_DATE_EPOCH", parts.date.to_string()).env("TZ", "UTC");
    command.args(["-no_rc", "-as", "mkisofs", "-quiet", "-o"]).arg(image);
    // Names as they are, and one owner, mode and date for all, whoever builds.
    command.args(["-V", LABEL, "-R", "-uid", "0", "-gid", "0", "-dir-mode", "0555", "-file-mode", "0444"]);
    command.arg("--set_all_file_dates").arg(format!("={}", parts.date));
    // Media of two images can be told apart by the partition that the loader came from.
    command.arg("--gpt_disk_guid").arg(digest::uuid_text(digest::uuid("ISO", parts.root_hash)));
    command.args(["-append_partition", "2", Partition::Esp.type_guid()]).arg(&boot).arg("-appended_part_as_gpt");
    command.args(["-e", "--interval:appended_partition_2:all::", "-no-emul-boot", "-graft-points"]);
    let files = [("root.erofs", parts.root), ("root.verity", parts.verity), ("uki.efi", parts.uki), ("systemd-bootx64.efi", parts.loader)];
    for (name, path) in files {
        command.arg(graft(&format!("/corten/{name}"), path)?);
    }
    tools::run(&mut command).with_context(making)?;
    cover_all(image).with_context(making)?;
    fs::remove_file(&boot).with_context(|| format!("removing {}", boot.display()))
}

/// Has the volume reach to the end of the image. A boot partition of a disc is more than the 32 MiB that its entry in the boot catalog can
/// tell, so the entry tells nothing, and firmware takes the partition to end where the volume does (EDK II, ElTorito.c); xorriso counts what
/// it appends as lying behind the volume.
fn cover_all(image: &Path) -> Result<()> {
    let mut file = File::options().write(true).open(image)?;
    let sectors = u32::try_from(file.metadata()?.len() / SECTOR)?;
    // Volume space size, little-endian and big-endian (ECMA-119, 8.4.8).
    file.seek(SeekFrom::Start(16 * SECTOR + 80))?;
    file.write_all(&sectors.to_le_bytes())?;
    file.write_all(&sectors.to_be_bytes())?;
    Ok(())
}

fn make_esp(boot: &Path, parts: &Parts<'_>, scratch: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let (loader, uki, entry, config) = (read(parts.loader)?, read(parts.uki)?, parts.entry(), parts.loader_config());
    let mut files: Vec<(&str, &[u8])> = vec![
        ("EFI/BOOT/BOOTX64.EFI", &loader),
        ("loader/loader.conf", config.as_bytes()),
        (ENTRY, entry.as_bytes()),
        ("corten/uki.efi", &uki),
    ];
    let enrolled: Vec<(String, &[u8])> =
        parts.enrolled.iter().map(|(name, content)| (format!("loader/keys/auto/{name}"), content.as_slice())).collect();
    files.extend(enrolled.iter().map(|(path, content)| (path.as_str(), *content)));
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // Two file allocation tables with four bytes a cluster each come on top, and directories.
    let size = (u64::try_from(content)? / 31 * 32 + (2 << 20)).next_multiple_of(1 << 20).max(LEAST_ESP);
    let serial = u32::from_le_bytes(digest::derive("ISO ESP", parts.root_hash)[..4].try_into()?);
    esp::make(boot, size, serial, parts.date, &files, scratch)
}

/// `<place on the medium>=<file>`, as -graft-points wants it: an equals sign in a path would have to be escaped.
fn graft(place: &str, path: &Path) -> Result<String> {
    let path = path.to_str().with_context(|| format!("{}: expected a path in UTF-8", path.display()))?;
    Ok(format!("{place}={}", path.replace('\\', "\\\\").replace('=', "\\=")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Tool;
    use gptman::GPT;
    use std::path::PathBuf;

    const MTYPE: Tool = Tool { program: "mtype", package: "mtools" };
    const SECTOR: usize = super::SECTOR as usize;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            let directory = tempfile::tempdir().unwrap();
            for name in ["loader", "uki", "root", "verity"] {
                fs::write(directory.path().join(name), name.repeat(1000)).unwrap();
            }
            Files(directory)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn make(&self, name: &str, enrolled: &[(String, Vec<u8>)]) -> PathBuf {
            let [loader, uki, root, verity] = ["loader", "uki", "root", "verity"].map(|name| self.path(name));
            let parts = Parts {
                loader: &loader,
                uki: &uki,
                root: &root,
                verity: &verity,
                enrolled,
                version: "1.2.3",
                profile: "bare",
                root_hash: "ab",
                date: 1_700_000_000,
            };
            make(&self.path(name), &parts, self.0.path()).unwrap();
            self.path(name)
        }
    }

    /// A file of the ESP, which begins at this byte of the image.
    fn on_esp(image: &Path, start: u64, path: &str) -> String {
        MTYPE.run(["-i", &format!("{}@@{start}", image.display()), &format!("::/{path}")]).unwrap()
    }

    fn esp_of(image: &Path) -> u64 {
        let table = GPT::read_from(&mut File::open(image).unwrap(), 512).unwrap();
        let esp = table.iter().find(|(_, entry)| hex::encode(entry.partition_type_guid) == "28732ac11ff8d211ba4b00a0c93ec93b");
        esp.unwrap().1.starting_lba * 512
    }

    #[test]
    fn firmware_finds_one_esp_as_a_disk_and_as_a_disc() {
        let files = Files::new();
        let image = files.make("corten.iso", &[]);
        let bytes = fs::read(&image).unwrap();
        // Primary and boot record volume descriptors (ECMA-119; El Torito 1.0, figure 7).
        let volume = &bytes[16 * SECTOR..17 * SECTOR];
        assert_eq!((volume[0], &volume[1..6], &volume[40..47]), (1, b"CD001".as_slice(), b"CORTEN ".as_slice()));
        let boot = &bytes[17 * SECTOR..18 * SECTOR];
        assert_eq!((boot[0], &boot[7..30]), (0, b"EL TORITO SPECIFICATION".as_slice()));
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let catalog = number(17 * SECTOR + 71) * SECTOR;
        // Platform EFI; bootable, without emulation.
        assert_eq!((bytes[catalog + 1], bytes[catalog + 32], bytes[catalog + 33]), (0xef, 0x88, 0));
        let esp = number(catalog + 40) * SECTOR;
        assert_eq!(esp as u64, esp_of(&image), "the partition is what the disc starts");
        // No size in the catalog: the partition ends where the volume does.
        let size = u32::from_le_bytes(volume[80..84].try_into().unwrap()) as usize * SECTOR;
        assert_eq!((&bytes[catalog + 38..catalog + 40], size), ([0, 0].as_slice(), bytes.len()));
        assert_eq!(volume[84..88], ((bytes.len() / SECTOR) as u32).to_be_bytes());
        let entry = on_esp(&image, esp as u64, "loader/entries/corten-iso.conf");
        assert_eq!(entry, "title Corten 1.2.3 (bare), from this medium\nversion 1\nsort-key corten\nefi /corten/uki.efi\n");
        assert_eq!(on_esp(&image, esp as u64, "loader/loader.conf"), esp::LOADER_CONFIG);
        assert_eq!(on_esp(&image, esp as u64, "corten/uki.efi"), "uki".repeat(1000));
        assert_eq!(on_esp(&image, esp as u64, "EFI/BOOT/BOOTX64.EFI"), "loader".repeat(1000));
    }

    #[test]
    fn holds_what_a_slot_needs() {
        let files = Files::new();
        let image = files.make("corten.iso", &[]);
        let out = files.path("out");
        let mut command = tools::XORRISO.command().unwrap();
        command.args(["-no_rc", "-osirrox", "on", "-indev"]).arg(&image).args(["-extract", "/corten"]).arg(&out);
        tools::run(&mut command).unwrap();
        for (name, content) in [("root.erofs", "root"), ("root.verity", "verity"), ("uki.efi", "uki"), ("systemd-bootx64.efi", "loader")] {
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), content.repeat(1000), "{name}");
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), 4);
    }

    #[test]
    fn is_the_same_each_time() {
        let (first, second) = (Files::new(), Files::new());
        let made = first.make("corten.iso", &[]);
        // Another second, folder and name: nothing of them is in the image.
        for name in ["loader", "root"] {
            let file = File::options().write(true).open(second.path(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        assert!(fs::read(made).unwrap() == fs::read(second.make("other.iso", &[])).unwrap());
    }

    #[test]
    fn brings_keys_to_enrol() {
        let files = Files::new();
        let image = files.make("corten.iso", &[("PK.auth".to_owned(), b"variable".to_vec())]);
        let esp = esp_of(&image);
        assert_eq!(on_esp(&image, esp, "loader/keys/auto/PK.auth"), "variable");
        let config = on_esp(&image, esp, "loader/loader.conf");
        assert!(config.starts_with("timeout 5\n") && config.ends_with("secure-boot-enroll if-safe\n"), "{config}");
    }
}
