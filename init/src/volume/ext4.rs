//! ext4: how it is made, checked, grown and mounted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use machine::disk::Volume;
use machine::service::Exit;
use rustix::mount::MountFlags;

use super::state::Outcome;

pub const MAKE: &str = "/usr/sbin/mkfs.ext4";
pub const CHECK: &str = "/usr/sbin/e2fsck";
pub const GROW: &str = "/usr/sbin/resize2fs";
/// The format of project quotas, which bound what each part of a volume may take.
pub const QUOTA_MODULE: &str = "quota_v2";

/// A partition that is larger by at least one block group of 4 KiB blocks is grown into.
const GROUP_BYTES: u64 = 128 * 1024 * 1024;

/// Arguments of mkfs.ext4. Its UUID is random. With `quota`, project quotas are kept from the start.
pub fn make_arguments(volume: Volume, device: &Path, quota: bool) -> Vec<String> {
    // -F: what lies there is no file system of ours, whatever it looks like. Reserved blocks only serve root: STATE keeps some for init.
    let reserved = if volume == Volume::State { "2" } else { "0" };
    let mut arguments = vec!["-q", "-F", "-U", "random", "-L", volume.partition().label(), "-m", reserved, "-I", "256"];
    let extended = if quota { "lazy_itable_init=1,quotatype=prjquota" } else { "lazy_itable_init=1" };
    arguments.extend(["-E", extended]);
    if quota {
        arguments.extend(["-O", "project,quota"]);
    }
    let device = device.display().to_string();
    arguments.into_iter().map(str::to_owned).chain([device]).collect()
}

/// Arguments of e2fsck: `repair` lets it do what may lose data.
pub fn check_arguments(device: &Path, repair: bool) -> Vec<String> {
    vec![if repair { "-y" } else { "-p" }.to_owned(), device.display().to_string()]
}

/// What e2fsck's exit code says (e2fsck(8)): 1 and 2 are errors that it corrected. `-p` stops at what needs a decision: then `-y` decides,
/// and what that leaves is broken.
pub fn check_outcome(exit: Exit, repair: bool) -> Outcome {
    match exit {
        Exit::Code(code) if code & !3 == 0 => Outcome::Good,
        // 4: errors left. 8: an operational error, such as a superblock that cannot be read; -y looks for its copies.
        Exit::Code(code) if code & !15 == 0 && !repair => Outcome::Damaged,
        Exit::Code(_) | Exit::Signal(_) | Exit::Exec(_) => Outcome::Failed,
    }
}

/// What a file system's superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    pub size_bytes: u64,
    /// Project quotas are kept.
    pub quota: bool,
}

pub fn read(device: &Path) -> io::Result<Superblock> {
    let mut bytes = [0; 1024];
    File::open(device)?.read_exact_at(&mut bytes, 1024)?;
    parse(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Layout: Documentation/filesystems/ext4/super.rst.
fn parse(bytes: &[u8; 1024]) -> Option<Superblock> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(0x38..0x3a) != Some(&[0x53, 0xef]) {
        return None;
    }
    let (incompatible, read_only_compatible) = (word(0x60)?, word(0x64)?);
    let high = if incompatible & 0x80 != 0 { word(0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4)?);
    let block_bytes = 1024_u64.checked_shl(word(0x18)?).filter(|bytes| *bytes <= 65536)?;
    let quota = read_only_compatible & 0x100 != 0 && read_only_compatible & 0x2000 != 0;
    Some(Superblock { size_bytes: blocks.checked_mul(block_bytes)?, quota })
}

/// Whether a file system should be grown into its partition.
pub fn should_grow(superblock: &Superblock, partition_bytes: u64) -> bool {
    superblock.size_bytes.saturating_add(GROUP_BYTES) <= partition_bytes
}

/// How a volume is mounted. EPHEMERAL holds containers, whose programs and device nodes must work.
pub fn mount_options(volume: Volume, superblock: &Superblock) -> (MountFlags, String) {
    let flags = match volume {
        Volume::State | Volume::Etcd => MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC,
        Volume::Ephemeral => MountFlags::NOATIME,
    };
    let quota = if superblock.quota { ",prjquota" } else { "" };
    (flags, format!("errors=remount-ro{quota}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn exit_codes_of_e2fsck() {
        for (code, first, second) in [
            (0, Outcome::Good, Outcome::Good),
            (1, Outcome::Good, Outcome::Good),
            (2, Outcome::Good, Outcome::Good),
            (3, Outcome::Good, Outcome::Good),
            (4, Outcome::Damaged, Outcome::Failed),
            (8, Outcome::Damaged, Outcome::Failed),
            (12, Outcome::Damaged, Outcome::Failed),
            (16, Outcome::Failed, Outcome::Failed),
            (32, Outcome::Failed, Outcome::Failed),
        ] {
            let exit = Exit::Code(code);
            assert_eq!((check_outcome(exit, false), check_outcome(exit, true)), (first, second), "exit code {code}");
        }
        assert_eq!(check_outcome(Exit::Signal(9), false), Outcome::Failed);
        assert_eq!(check_outcome(Exit::Exec(2), false), Outcome::Failed);
    }

    /// The real tools on a sparse file: made, damaged, checked, repaired, grown.
    #[test]
    fn file_system_goes_through_its_life() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let device = directory.path().join("device");
        let resize = |bytes| File::options().create(true).truncate(false).write(true).open(&device).and_then(|f| f.set_len(bytes));
        resize(64 << 20).expect("make");
        let run = |program: &str, arguments: Vec<String>| {
            let output = Command::new(program).args(arguments).output().expect("e2fsprogs is installed");
            Exit::Code(output.status.code().expect("an exit code"))
        };

        assert_eq!(run(MAKE, make_arguments(Volume::State, &device, true)), Exit::Code(0));
        assert_eq!(read(&device).expect("superblock"), Superblock { size_bytes: 64 << 20, quota: true });
        assert_eq!(check_outcome(run(CHECK, check_arguments(&device, false)), false), Outcome::Good);

        // The superblock is lost: -p gives up, -y finds a copy.
        let file = File::options().write(true).open(&device).expect("open");
        file.write_all_at(&[0; 1024], 1024).expect("damage");
        assert!(read(&device).is_err());
        assert_eq!(check_outcome(run(CHECK, check_arguments(&device, false)), false), Outcome::Damaged);
        assert_eq!(check_outcome(run(CHECK, check_arguments(&device, true)), true), Outcome::Good);
        let superblock = read(&device).expect("repaired");

        assert!(!should_grow(&superblock, 128 << 20) && should_grow(&superblock, 512 << 20));

        assert_eq!(run(MAKE, make_arguments(Volume::Ephemeral, &device, false)), Exit::Code(0));
        assert!(!read(&device).expect("superblock").quota);
        file.write_all_at(&[0xff; 64 << 20], 0).expect("damage");
        assert_eq!(check_outcome(run(CHECK, check_arguments(&device, true)), true), Outcome::Failed);
    }

    #[test]
    fn mount_options_of_each_volume() {
        let superblock = Superblock { size_bytes: 0, quota: true };
        let (flags, options) = mount_options(Volume::State, &superblock);
        assert!(flags.contains(MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC));
        assert_eq!(options, "errors=remount-ro,prjquota");
        assert_eq!(mount_options(Volume::Ephemeral, &Superblock { quota: false, ..superblock }).1, "errors=remount-ro");
    }
}
