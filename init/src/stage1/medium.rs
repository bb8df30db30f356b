//! What the machine was booted from, and the root as files: on an installation medium, or in the initramfs that came over the network.
//! Either way the medium's files stand below [`Root::medium`] in the end, for the agent to install from.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;
use machine::protocol::Medium;
use machine::verity::Superblock;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

use super::disk;
use super::iso9660;
use super::verity;
use crate::block::{self, Node};
use crate::files;
use crate::loader::Loader;
use crate::mount;

/// Entry by which the boot loader of the ISO image starts its kernel.
const ISO_ENTRY: &str = "corten-iso.conf";
/// Directory of the files, on the ISO and in the initramfs.
pub const FILES: &str = "/corten";
const ROOT: &str = "root.erofs";
const TREE: &str = "root.verity";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    None(#[from] NoMedium),
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("keep {FILES} of the initramfs")]
    Keep(#[source] io::Error),
    #[error("{path} {reason}")]
    Image { path: PathBuf, reason: verity::Unfit },
}

/// Why no medium can be booted from. It may change while the kernel still finds devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMedium {
    #[error("no disk or optical drive holds an ISO 9660 file system with the label {}", iso9660::LABEL)]
    Nothing,
    #[error("no medium holds the root: {}", .0.join("; "))]
    Unfit(Vec<String>),
}

/// What the machine was booted from: the command line says it, or the boot loader's entry, or a root in the initramfs.
pub fn decide(named: Option<Medium>, loader: &Loader, root_in_initramfs: bool) -> Medium {
    match named {
        Some(medium) => medium,
        None if loader.entry.as_deref() == Some(ISO_ENTRY) => Medium::Iso,
        None if root_in_initramfs => Medium::Network,
        None => Medium::Disk,
    }
}

/// Whether the initramfs holds the root.
pub fn is_in_initramfs(root: &Root) -> bool {
    root.path(FILES).join(ROOT).exists()
}

/// The root and its hash tree as files of the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub root: PathBuf,
    pub tree: PathBuf,
    pub superblock: Superblock,
}

/// Looks once at every disk and optical drive for the medium with the root, and leaves it mounted.
pub fn look(root: &Root, loader: &Loader, wanted: &[u8; 32]) -> Result<Images, NoMedium> {
    let mut nodes = block::read(root).unwrap_or_default();
    if loader.partition.is_some() {
        disk::name_partitions(root, &mut nodes);
    }
    let mut reasons = Vec::new();
    for name in candidates(&nodes, loader.partition.as_deref()) {
        let device = root.path("/dev").join(&name);
        // What cannot be read is no medium: drives without one, for instance.
        if !matches!(iso9660::label(&device), Ok(Some(label)) if label == iso9660::LABEL) {
            continue;
        }
        match mount_iso(root, &device).and_then(|()| images(root, wanted)) {
            Ok(images) => return Ok(images),
            Err(error) => {
                reasons.push(format!("{name}: {}", crate::console::chain(&error)));
                let _ = unmount(root.medium(), UnmountFlags::empty());
            }
        }
    }
    Err(if reasons.is_empty() { NoMedium::Nothing } else { NoMedium::Unfit(reasons) })
}

/// Whole devices, the one that the boot loader was started from first. The ISO image begins where the device does, on a stick as well.
fn candidates(nodes: &[Node], loader: Option<&str>) -> Vec<String> {
    let from: BTreeSet<&str> =
        nodes.iter().filter(|node| loader.is_some() && node.guid.as_deref() == loader).filter_map(|node| node.disk.as_deref()).collect();
    let whole = nodes.iter().filter(|node| node.disk.is_none() && node.size_bytes > 0).map(|node| node.name.as_str());
    let (first, rest): (Vec<&str>, Vec<&str>) = whole.partition(|name| from.contains(name));
    first.into_iter().chain(rest).map(str::to_owned).collect()
}

fn mount_iso(root: &Root, device: &Path) -> Result<(), Error> {
    let target = root.medium();
    files::make_directory(&target, 0o755)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount::file_system("iso9660", device, &target, flags, "")?)
}

/// Shows the initramfs' files where a medium's are. They stay in the memory in which they are: nothing is copied.
pub fn keep(root: &Root) -> Result<(), Error> {
    let target = root.medium().join(FILES.trim_start_matches('/'));
    files::make_directory(&target, 0o755)?;
    mount_bind(root.path(FILES), &target).map_err(|error| Error::Keep(error.into()))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(&target, flags, c"").map_err(|error| Error::Keep(error.into()))
}

/// The images of the medium in its place, if they are those of the root hash.
pub fn images(root: &Root, wanted: &[u8; 32]) -> Result<Images, Error> {
    let directory = root.medium().join(FILES.trim_start_matches('/'));
    let (image, tree) = (directory.join(ROOT), directory.join(TREE));
    let superblock = verity::of_image(&image, &tree, wanted).map_err(|(path, reason)| Error::Image { path, reason })?;
    Ok(Images { root: image, tree, superblock })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn command_line_decides_before_the_entry_and_the_entry_before_the_initramfs() {
        let iso = Loader { entry: Some(ISO_ENTRY.into()), ..Loader::default() };
        let slot = Loader { entry: Some("corten-a.conf".into()), ..Loader::default() };
        for (named, loader, inside, expected) in [
            (None, &slot, false, Medium::Disk),
            (None, &iso, false, Medium::Iso),
            (None, &iso, true, Medium::Iso),
            (None, &Loader::default(), true, Medium::Network),
            (None, &Loader::default(), false, Medium::Disk),
            (Some(Medium::Disk), &iso, true, Medium::Disk),
            (Some(Medium::Iso), &slot, false, Medium::Iso),
        ] {
            assert_eq!(decide(named, loader, inside), expected, "{named:?} {loader:?} {inside}");
        }
    }

    #[test]
    fn device_of_the_boot_loader_is_looked_at_first_and_partitions_never() {
        let whole = |name: &str| Node { name: name.into(), size_bytes: 1, ..Node::default() };
        let nodes = [
            whole("sda"),
            whole("sdb"),
            Node { disk: Some("sdb".into()), guid: Some("ab".into()), ..whole("sdb2") },
            Node { size_bytes: 0, ..whole("sr0") },
            whole("sr1"),
        ];
        assert_eq!(candidates(&nodes, Some("ab")), ["sdb", "sda", "sr1"]);
        assert_eq!(candidates(&nodes, Some("other")), ["sda", "sdb", "sr1"]);
        assert_eq!(candidates(&nodes, None), ["sda", "sdb", "sr1"], "partitions without a GUID belong to nobody");
    }

    #[test]
    fn missing_or_other_images_are_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        assert!(!is_in_initramfs(&root));
        let error = images(&root, &[0; 32]).expect_err("nothing there").to_string();
        assert!(error.contains("root.verity cannot be read"), "{error}");
        let corten = root.medium().join("corten");
        fs::create_dir_all(&corten).expect("make");
        fs::write(corten.join(TREE), vec![0; 8192]).expect("write");
        let error = images(&root, &[0; 32]).expect_err("no superblock").to_string();
        assert!(error.contains("root.verity has no verity superblock"), "{error}");
        assert_eq!(look(&root, &Loader::default(), &[0; 32]), Err(NoMedium::Nothing));
    }
}
