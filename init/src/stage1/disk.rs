//! Waits for the disk that was booted to appear.

use std::fs::{self, File};
use std::time::Duration;

use machine::Root;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::block::{self, Hint, NoDisk, Node};
use crate::cmdline::{CommandLine, hex};
use crate::console::Console;
use crate::gpt::table;
use crate::{clock, uevent};

/// Longer than spinning disks behind a controller take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A safety net: every change comes with an event.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Vendor GUID of the Boot Loader Interface's variables (systemd.io/BOOT_LOADER_INTERFACE).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What points to the disk: the boot loader first, then the command line.
pub fn hint(root: &Root, line: &CommandLine) -> Hint {
    if let Some(guid) = loader_variable(root, "LoaderDevicePartUUID") {
        return Hint::LoaderPartition(guid.to_ascii_lowercase());
    }
    match &line.disk {
        Some(name) => Hint::Named(name.clone()),
        None => Hint::Nothing,
    }
}

/// The boot loader's entry that was chosen, such as `corten-b+2-1.conf`.
pub fn selected_entry(root: &Root) -> Option<String> {
    loader_variable(root, "LoaderEntrySelected")
}

/// Waits until the disk is there. `load_driver` loads one more driver, as long as there is one.
pub fn wait(root: &Root, console: &Console, hint: &Hint, mut load_driver: impl FnMut() -> bool) -> Result<String, NoDisk> {
    // Opened before the first look, so that nothing falls between the two.
    let events = uevent::open().ok();
    let deadline = clock::since_boot() + PATIENCE;
    let mut shown = false;
    loop {
        let mut nodes = block::read(root).unwrap_or_default();
        if let Hint::LoaderPartition(_) = hint {
            name_partitions(root, &mut nodes);
        }
        let found = block::booted_disk(&nodes, hint);
        if found.is_ok() || clock::since_boot() >= deadline {
            return found;
        }
        if load_driver() {
            continue;
        }
        if let Err(reason) = &found
            && !std::mem::replace(&mut shown, true)
        {
            console.info(&format!("waiting {} s for the disk: {reason}", PATIENCE.as_secs()));
        }
        match &events {
            Some(events) => {
                let _ = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&LOOK_AGAIN));
                while let Ok(Some(_)) = uevent::receive(events) {}
            }
            None => {
                let _ = poll(&mut [], Some(&LOOK_AGAIN));
            }
        }
    }
}

/// Reads the GUIDs of partitions from their disks' tables: sysfs has them only since Linux 6.17.
fn name_partitions(root: &Root, nodes: &mut [Node]) {
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
            node.guid = entry.map(|entry| guid_text(&entry.unique_partition_guid));
        }
    }
}

/// A GUID as text: the first three fields are little-endian on the disk (UEFI 2.10, appendix A).
fn guid_text(guid: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let (node, clock) = (hex(rest.get(2..).unwrap_or_default()), hex(rest.get(..2).unwrap_or_default()));
    format!("{}-{}-{}-{clock}-{node}", hex(&[*d, *c, *b, *a]), hex(&[*f, *e]), hex(&[*h, *g]))
}

fn loader_variable(root: &Root, name: &str) -> Option<String> {
    let content = fs::read(root.path(&format!("/sys/firmware/efi/efivars/{name}-{LOADER}"))).ok()?;
    decode(&content).filter(|text| !text.is_empty())
}

/// A variable's file: four bytes of attributes, then UTF-16 ended by zero.
fn decode(content: &[u8]) -> Option<String> {
    let units: Vec<u16> = content
        .get(4..)?
        .chunks_exact(2)
        .map(|pair| pair.iter().rev().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::disk::Partition;

    #[test]
    fn loader_variable_points_before_the_command_line() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let line = CommandLine { disk: Some("vdb".into()), ..CommandLine::default() };
        assert_eq!(hint(&root, &line), Hint::Named("vdb".into()));
        assert_eq!(hint(&root, &CommandLine::default()), Hint::Nothing);

        let variables = root.path("/sys/firmware/efi/efivars");
        fs::create_dir_all(&variables).expect("make");
        let mut content = vec![6, 0, 0, 0];
        content.extend("AB-12\0".encode_utf16().flat_map(u16::to_le_bytes));
        fs::write(variables.join(format!("LoaderDevicePartUUID-{LOADER}")), &content).expect("write");
        assert_eq!(hint(&root, &line), Hint::LoaderPartition("ab-12".into()));
    }

    #[test]
    fn guid_is_written_as_firmware_and_boot_loader_do() {
        let esp = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid_text(&esp), Partition::Esp.type_guid());
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

    #[test]
    fn variables_that_are_cut_short_are_no_hint() {
        assert_eq!(decode(b"\x06\0\0"), None);
        assert_eq!(decode(b"\x06\0\0\0"), Some(String::new()));
        assert_eq!(decode(b"\x06\0\0\0a\0b"), Some("a".into()));
        assert_eq!(decode(b"\x06\0\0\0\x00\xd8"), None, "half a surrogate pair");
    }
}
