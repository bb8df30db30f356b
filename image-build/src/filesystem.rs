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

/// Writes the hash tree, superblock first, and returns the root hash. The salt follows from the content.
pub fn verity(image: &Path, hashes: &Path, seed: &str) -> Result<String> {
    let salt = hex::encode(digest::derive("verity salt", seed));
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
