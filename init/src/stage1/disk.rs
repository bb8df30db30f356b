//! The disk that was booted: what points to it, and how its partitions are told by their GUIDs.

use std::fs::File;

use machine::Root;

use crate::block::{self, Hint, NoDisk, Node};
use crate::cmdline::CommandLine;
use crate::gpt::{guid, table};
use crate::loader::Loader;

/// What points to the disk: the boot loader first, then the command line.
pub fn hint(loader: &Loader, line: &CommandLine) -> Hint {
    match (&loader.partition, &line.disk) {
        (Some(guid), _) => Hint::LoaderPartition(guid.clone()),
        (None, Some(name)) => Hint::Named(name.clone()),
        (None, None) => Hint::Nothing,
    }
}

/// Looks for the disk once.
pub fn look(root: &Root, hint: &Hint) -> Result<String, NoDisk> {
    let mut nodes = block::read(root).unwrap_or_default();
    if let Hint::LoaderPartition(_) = hint {
        name_partitions(root, &mut nodes);
    }
    block::booted_disk(&nodes, hint)
}

/// Reads the GUIDs of partitions from their disks' tables: sysfs has them only since Linux 6.17.
pub fn name_partitions(root: &Root, nodes: &mut [Node]) {
    let mut disks: Vec<String> = nodes.iter().filter(|node| node.guid.is_none()).filter_map(|node| node.disk.clone()).collect();
    disks.dedup();
    for disk in disks {
        // A disk without a readable table has no ESP that a boot loader came from.
        let Ok(sector_size) = block::sector_size(root, &disk) else { continue };
        let Ok(mut file) = File::open(root.path("/dev").join(&disk)) else { continue };
        let Ok(seen) = table::read(&mut file, sector_size) else { continue };
        for node in nodes.iter_mut().filter(|node| node.disk.as_ref() == Some(&disk)) {
            let index = node.number.and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
            let entry = index.and_then(|index| seen.table.entries.get(index));
            node.guid = entry.map(|entry| guid::text(&entry.unique_partition_guid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn boot_loader_points_before_the_command_line() {
        let line = CommandLine { disk: Some("vdb".into()), ..CommandLine::default() };
        assert_eq!(hint(&Loader::default(), &line), Hint::Named("vdb".into()));
        assert_eq!(hint(&Loader::default(), &CommandLine::default()), Hint::Nothing);
        let loader = Loader { partition: Some("ab-12".into()), ..Loader::default() };
        assert_eq!(hint(&loader, &line), Hint::LoaderPartition("ab-12".into()));
    }

    #[test]
    fn partitions_are_named_by_their_disks_table() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        fs::create_dir_all(root.path("/dev")).expect("make");
        fs::create_dir_all(root.path("/sys/class/block/vda/queue")).expect("make");
        fs::write(root.path("/sys/class/block/vda/queue/logical_block_size"), "512\n").expect("write");
        let mut disk = File::options().read(true).write(true).create_new(true).open(root.path("/dev/vda")).expect("disk");
        disk.set_len(4 << 20).expect("size");
        let mut table = gptman::GPT::new_from(&mut disk, 512, [1; 16]).expect("table");
        table[2] = gptman::GPTPartitionEntry {
            partition_type_guid: [1; 16],
            unique_partition_guid: [0xab; 16],
            starting_lba: 2048,
            ending_lba: 4095,
            attribute_bits: 0,
            partition_name: "ESP".into(),
        };
        table.write_into(&mut disk).expect("write");
        let node = |number| Node { name: format!("vda{number}"), disk: Some("vda".into()), number: Some(number), ..Node::default() };
        let mut nodes = [node(2), Node { disk: Some("gone".into()), ..node(3) }];
        name_partitions(&root, &mut nodes);
        assert_eq!(nodes[0].guid.as_deref(), Some("abababab-abab-abab-abab-abababababab"));
        assert_eq!(nodes[1].guid, None);
    }
}
