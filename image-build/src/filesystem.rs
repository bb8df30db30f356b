//! The root file system and its dm-verity tree, and copies of the disk in the forms that clouds take, made by the host's tools without
//! privileges.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::platform::DISK_RAW;
use crate::{digest, tools, vhd};

/// Block size of both.
const BLOCK: &str = "4096";

/// An uncompressed erofs: it is the base of delta updates. Everything belongs to root, has one date and no extended attributes.
pub fn erofs(tree: &Path, image: &Path, date: u64, seed: &str) -> Result<()> {
    let arguments = [
        "--quiet".to_owned(),
        "--all-root".to_owned(),
        "-x-1".to_owned(),
        format!("-T{date}"),
        format!("-U{}", digest::uuid_text(digest::uuid("erofs", seed))),
    ];
    let mut command = tools::MKFS_EROFS.command()?;
    command.args(arguments).arg(image).arg(tree);
    tools::run(&mut command).with_context(|| format!("making {}", image.display()))?;
    Ok(())
}

/// Writes the hash tree, superblock first, and returns the root hash. All images have one salt: a block that two of them have has one hash,
/// so that an update sends the hashes of changed blocks only. It is published with each image anyway, and SHA-256 needs none.
pub fn verity(image: &Path, hashes: &Path, seed: &str) -> Result<String> {
    let salt = hex::encode(digest::derive("verity salt", ""));
    let uuid = digest::uuid_text(digest::uuid("verity", seed));
    let mut command = tools::VERITYSETUP.command()?;
    command.args(["format", "--format=1", "--hash=sha256", "--data-block-size", BLOCK, "--hash-block-size", BLOCK]);
    command.arg(format!("--salt={salt}")).arg(format!("--uuid={uuid}")).arg(image).arg(hashes);
    let printed = tools::run(&mut command).with_context(|| format!("making {}", hashes.display()))?;
    // It is as public as the image.
    fs::set_permissions(hashes, fs::Permissions::from_mode(0o644)).with_context(|| format!("opening {} to all", hashes.display()))?;
    let hash = printed.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim).unwrap_or_default();
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("veritysetup printed no root hash: {printed}");
    }
    Ok(hash.to_owned())
}

/// The indexes that modprobe reads, in `<tree>/usr/lib/modules/<release>`.
pub fn module_index(tree: &Path, release: &str) -> Result<()> {
    let mut command = tools::DEPMOD.command()?;
    command.arg("-b").arg(tree).arg(release);
    tools::run(&mut command).context("indexing kernel modules")?;
    Ok(())
}

/// A compressed copy for clouds and for QEMU.
pub fn qcow2(disk: &Path, copy: &Path) -> Result<()> {
    let mut command = tools::QEMU_IMG.command()?;
    // One coroutine: with more, the order of the clusters is a race.
    command.args(["convert", "-m", "1", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]).arg(disk).arg(copy);
    tools::run(&mut command).with_context(|| format!("making {}", copy.display()))?;
    Ok(())
}

/// A fixed VHD of the same size: Azure takes no dynamic one, and only whole mebibytes.
pub fn vhd(disk: &Path, copy: &Path, date: u64, seed: &str) -> Result<()> {
    let mut command = tools::QEMU_IMG.command()?;
    command.args(["convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size"]).arg(disk).arg(copy);
    tools::run(&mut command).with_context(|| format!("making {}", copy.display()))?;
    vhd::settle(copy, date, digest::uuid("VHD", seed))
}

/// The disk in a tar archive as Google Compute Engine takes it: GNU's old format, gzip, one file by this name.
pub fn google_archive(disk: &Path, copy: &Path, date: u64) -> Result<()> {
    let folder = disk.parent().unwrap_or(Path::new("."));
    let mut command = tools::TAR.command()?;
    // Holes are found by reading: what the file system says of them depends on its block size.
    command.args(["--format=oldgnu", "--sparse", "--hole-detection=raw", "--owner=root:0", "--group=root:0", "--mode=0644"]);
    command.arg(format!("--mtime=@{date}")).arg("--use-compress-program=gzip -n").arg("-cf").arg(copy).arg("-C").arg(folder).arg(DISK_RAW);
    tools::run(&mut command).with_context(|| format!("making {}", copy.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_archive_for_google_has_one_sparse_file_and_is_the_same_each_time() {
        let packed = [(1_600_000_000, 0o600), (1_700_000_000, 0o644)].map(|(changed, mode)| {
            let directory = tempfile::tempdir().unwrap();
            let disk = directory.path().join(DISK_RAW);
            let file = File::create(&disk).unwrap();
            file.set_len(64 << 20).unwrap();
            file.write_all_at(&[7; 4096], 32 << 20).unwrap();
            // Zeros that are written are no hole of the file system, but one of the archive.
            file.write_all_at(&[0; 8192], u64::from(mode)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(changed)).unwrap();
            fs::set_permissions(&disk, fs::Permissions::from_mode(mode)).unwrap();
            let archive = directory.path().join("disk.tar.gz");
            google_archive(&disk, &archive, 1_650_000_000).unwrap();
            fs::read(&archive).unwrap()
        });
        assert!(packed[0] == packed[1]);
        assert!(packed[0].len() < 4096, "{} bytes", packed[0].len());
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("disk.tar.gz");
        fs::write(&archive, &packed[0]).unwrap();
        let printed = tools::TAR.run(["--utc".as_ref(), "--full-time".as_ref(), "-tvzf".as_ref(), archive.as_os_str()]).unwrap();
        assert_eq!(printed, "-rw-r--r-- root/root  67108864 2022-04-15 05:20:00 disk.raw\n");
    }
}
