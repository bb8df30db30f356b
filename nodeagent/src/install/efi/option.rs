//! A boot option as the firmware keeps it (EFI_LOAD_OPTION; UEFI 2.10, 3.1.3, and 10.3 for its device path).

use machine::boot::LOADER;

/// LOAD_OPTION_ACTIVE: the firmware tries it.
const ACTIVE: u32 = 1;
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
/// End of the entire device path.
const END: [u8; 4] = [0x7f, 0xff, 4, 0];
/// Of a hard drive's node: its table is a GPT, its signature a GUID.
const GPT_BY_GUID: [u8; 2] = [2, 2];

/// The partition that a loader is started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootPartition {
    /// In the table, from 1.
    pub number: u32,
    /// In sectors of the disk.
    pub start: u64,
    pub sectors: u64,
    /// As the disk has it: the first three fields little-endian.
    pub guid: [u8; 16],
}

/// An option that starts the disk's systemd-boot. The disk is named by its partition alone: wherever it is plugged in, it is found.
pub fn load_option(description: &str, partition: &BootPartition) -> Vec<u8> {
    let mut place = Vec::new();
    place.extend(partition.number.to_le_bytes());
    place.extend(partition.start.to_le_bytes());
    place.extend(partition.sectors.to_le_bytes());
    place.extend(partition.guid);
    place.extend(GPT_BY_GUID);
    let path = [node(MEDIA, HARD_DRIVE, &place), node(MEDIA, FILE_PATH, &text(&format!("\\{}", LOADER.replace('/', "\\")))), END.to_vec()]
        .concat();
    [&ACTIVE.to_le_bytes()[..], &length(path.len()), &text(description), &path].concat()
}

/// An option's description; `None` for what is no option.
pub fn description(option: &[u8]) -> Option<String> {
    const BEFORE_BYTES: usize = 6;
    let units = option.get(BEFORE_BYTES..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok()
}

/// A GUID as text has it, as the disk has it.
pub fn guid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.split('-').collect();
    let mut bytes: [u8; 16] = hex::decode(digits).ok()?.try_into().ok()?;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

fn node(kind: u8, sub_kind: u8, content: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: usize = 4;
    [&[kind, sub_kind][..], &length(HEADER_BYTES + content.len()), content].concat()
}

/// UTF-16, little-endian, ended by zero.
fn text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Paths here are far below what the field holds.
fn length(bytes: usize) -> [u8; 2] {
    (bytes as u16).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const PARTITION: BootPartition = BootPartition { number: 1, start: 2048, sectors: 2_097_152, guid: [0xa5; 16] };

    #[test]
    fn bytes() {
        let partition = BootPartition { guid: guid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").unwrap(), ..PARTITION };
        let mut dump = String::new();
        for (row, bytes) in load_option("Corten (2)", &partition).chunks(16).enumerate() {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown: String = bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
            writeln!(dump, "{:04x}  {:<47}  {shown}", row * 16, digits.join(" ")).unwrap();
        }
        crate::golden::check("src/install/efi/golden/option.txt", &dump);
    }

    #[test]
    fn description_is_read_back() {
        assert_eq!(description(&load_option("Corten", &PARTITION)).as_deref(), Some("Corten"));
        assert_eq!(description(&[1, 0, 0, 0, 9]), None);
        assert_eq!(description(&[1, 0, 0, 0, 0, 0, 0, 0xd8, 0, 0]), None, "half a surrogate pair");
    }

    #[test]
    fn guids_that_are_none() {
        assert_eq!((guid(""), guid("ab"), guid(&"x".repeat(32))), (None, None, None));
    }
}
