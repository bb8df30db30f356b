//! The disks and partitions that the kernel knows, as sysfs shows them, and which of them the machine was booted from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;
use machine::disk::Partition;

/// A disk or partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `vda`, `nvme0n1p3`
    pub name: String,
    /// Of a partition: its disk.
    pub disk: Option<String>,
    /// Of a partition: its number.
    pub number: Option<u32>,
    /// GPT partition name.
    pub label: Option<String>,
    /// GPT partition GUID, lower case.
    pub guid: Option<String>,
    pub size_bytes: u64,
}

impl Node {
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// Reads all of them.
pub fn read(root: &Root) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(root.path("/sys/class/block"))? {
        let entry = entry?;
        // A device may vanish between two reads: it is left out.
        if let (Ok(path), Ok(name)) = (fs::canonicalize(entry.path()), entry.file_name().into_string()) {
            nodes.extend(read_node(&path, name));
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

fn read_node(path: &Path, name: String) -> Option<Node> {
    let uevent = fs::read_to_string(path.join("uevent")).ok()?;
    let field = |key: &str| {
        let value = uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.to_owned())
    };
    let sectors: u64 = fs::read_to_string(path.join("size")).ok()?.trim().parse().ok()?;
    let partition = field("DEVTYPE").as_deref() == Some("partition");
    let disk = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).filter(|_| partition);
    Some(Node {
        name,
        disk: disk.map(str::to_owned),
        number: field("PARTN").and_then(|number| number.parse().ok()),
        label: field("PARTNAME"),
        guid: field("PARTUUID").map(|guid| guid.to_ascii_lowercase()),
        size_bytes: sectors.saturating_mul(512),
    })
}

/// A disk's logical sector size in bytes.
pub fn sector_size(root: &Root, disk: &str) -> io::Result<u64> {
    let path = root.path(&format!("/sys/class/block/{disk}/queue/logical_block_size"));
    let text = fs::read_to_string(&path)?;
    let size: u64 = text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if size.is_power_of_two() && (512..=65536).contains(&size) { Ok(size) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
}

/// A device's number as the device mapper takes it: `major:minor`.
pub fn number(root: &Root, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(root.path(&format!("/sys/class/block/{name}/dev")))?.trim().to_owned())
}

/// A disk's partition with one of Corten's labels.
pub fn partition<'a>(nodes: &'a [Node], disk: &str, partition: Partition) -> Option<&'a Node> {
    nodes.iter().find(|node| node.disk.as_deref() == Some(disk) && node.label.as_deref() == Some(partition.label()))
}

/// What is known of the disk that was booted before its partitions are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The boot loader's word: GUID of the ESP that it was started from.
    LoaderPartition(String),
    /// `corten.disk=`
    Named(String),
    Nothing,
}

/// Why there is no disk to boot from. All but `Ambiguous` may change while the kernel still finds disks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDisk {
    #[error("no partition has the GUID {0}, from which the boot loader was started")]
    LoaderPartition(String),
    #[error("the disk {0}, named by corten.disk, is not there or has no partition ROOT-A")]
    Named(String),
    #[error("no disk has a partition ROOT-A")]
    None,
    #[error("several disks could be the booted one: {}; detach all but one, or name it by corten.disk", .0.join(", "))]
    Ambiguous(Vec<String>),
}

/// The name of the disk that was booted.
pub fn booted_disk(nodes: &[Node], hint: &Hint) -> Result<String, NoDisk> {
    let with_root = || nodes.iter().filter(|node| node.label.as_deref() == Some(Partition::RootA.label()));
    let mut disks: Vec<String> = match hint {
        Hint::LoaderPartition(guid) => {
            nodes.iter().filter(|node| node.guid.as_deref() == Some(guid)).filter_map(|node| node.disk.clone()).collect()
        }
        Hint::Named(name) => with_root().filter_map(|node| node.disk.clone()).filter(|disk| disk == name).collect(),
        Hint::Nothing => with_root().filter_map(|node| node.disk.clone()).collect(),
    };
    disks.dedup();
    match (disks.len(), disks.pop()) {
        (1, Some(disk)) => Ok(disk),
        (_, None) => Err(match hint {
            Hint::LoaderPartition(guid) => NoDisk::LoaderPartition(guid.clone()),
            Hint::Named(name) => NoDisk::Named(name.clone()),
            Hint::Nothing => NoDisk::None,
        }),
        (_, Some(last)) => {
            disks.push(last);
            Err(NoDisk::Ambiguous(disks))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn node(disk: &str, number: u32, label: &str, guid: &str) -> Node {
        Node {
            name: format!("{disk}{number}"),
            disk: Some(disk.to_owned()),
            number: Some(number),
            label: Some(label.to_owned()),
            guid: Some(guid.to_owned()),
            size_bytes: 0,
        }
    }

    #[test]
    fn booted_disk_is_the_loaders_then_the_named_then_the_only_one() {
        let nodes =
            [node("vda", 1, "ESP", "aa"), node("vda", 2, "ROOT-A", "ab"), node("vdb", 1, "ESP", "ba"), node("vdb", 2, "ROOT-A", "bb")];
        assert_eq!(booted_disk(&nodes, &Hint::LoaderPartition("ba".into())), Ok("vdb".into()));
        assert_eq!(booted_disk(&nodes, &Hint::LoaderPartition("xx".into())), Err(NoDisk::LoaderPartition("xx".into())));
        assert_eq!(booted_disk(&nodes, &Hint::Named("vda".into())), Ok("vda".into()));
        assert_eq!(booted_disk(&nodes, &Hint::Named("vdz".into())), Err(NoDisk::Named("vdz".into())));
        assert_eq!(booted_disk(&nodes, &Hint::Nothing), Err(NoDisk::Ambiguous(vec!["vda".into(), "vdb".into()])));
        assert_eq!(booted_disk(&nodes[..2], &Hint::Nothing), Ok("vda".into()));
        assert_eq!(booted_disk(&[], &Hint::Nothing), Err(NoDisk::None));
    }

    #[test]
    fn clones_of_one_image_are_told_apart_or_refused() {
        let nodes = [node("vda", 1, "ESP", "aa"), node("vdb", 1, "ESP", "aa")];
        let hint = Hint::LoaderPartition("aa".into());
        assert_eq!(booted_disk(&nodes, &hint), Err(NoDisk::Ambiguous(vec!["vda".into(), "vdb".into()])));
    }

    #[test]
    fn sysfs_is_read() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let disk = root.path("/sys/devices/virtio0/block/vda");
        fs::create_dir_all(disk.join("vda2")).expect("make");
        fs::create_dir_all(disk.join("queue")).expect("make");
        fs::create_dir_all(root.path("/sys/class/block")).expect("make");
        fs::write(disk.join("uevent"), "DEVNAME=vda\nDEVTYPE=disk\n").expect("write");
        fs::write(disk.join("size"), "4096\n").expect("write");
        fs::write(disk.join("queue/logical_block_size"), "512\n").expect("write");
        let uevent = "DEVNAME=vda2\nDEVTYPE=partition\nPARTN=2\nPARTNAME=ROOT-A\nPARTUUID=AB\n";
        fs::write(disk.join("vda2/uevent"), uevent).expect("write");
        fs::write(disk.join("vda2/size"), "2048\n").expect("write");
        symlink(&disk, root.path("/sys/class/block/vda")).expect("link");
        symlink(disk.join("vda2"), root.path("/sys/class/block/vda2")).expect("link");

        let nodes = read(&root).expect("read");

        let whole = Node { name: "vda".into(), size_bytes: 4096 * 512, ..Node::default() };
        assert_eq!(nodes, [whole, Node { size_bytes: 2048 * 512, ..node("vda", 2, "ROOT-A", "ab") }]);
        assert_eq!(partition(&nodes, "vda", Partition::RootA), nodes.get(1));
        assert_eq!(sector_size(&root, "vda").expect("read"), 512);
    }
}
