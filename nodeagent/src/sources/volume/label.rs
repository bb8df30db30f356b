//! Labels of ISO 9660 and FAT file systems, read without mounting anything.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Iso9660,
    Fat,
}

impl FileSystem {
    /// As mount(2) knows it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Iso9660 => "iso9660",
            FileSystem::Fat => "vfat",
        }
    }
}

/// A file system and what it is called; FAT may have two names, one in its boot sector and one in its root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    pub file_system: FileSystem,
    pub labels: Vec<String>,
}

/// `None` where there is neither of the two file systems.
pub fn read(volume: &mut (impl Read + Seek)) -> io::Result<Option<Labelled>> {
    if let Some(label) = iso9660(volume)? {
        return Ok(Some(Labelled { file_system: FileSystem::Iso9660, labels: vec![label] }));
    }
    Ok(fat(volume)?.map(|labels| Labelled { file_system: FileSystem::Fat, labels }))
}

/// ECMA-119, 8.4: the primary volume descriptor stands in the 16th sector of 2048 bytes.
fn iso9660(volume: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    const PRIMARY: u8 = 1;
    let Some(descriptor) = at::<72>(volume, 16 * 2048)? else { return Ok(None) };
    let is_primary = descriptor[0] == PRIMARY && &descriptor[1..6] == b"CD001";
    Ok(is_primary.then(|| text(&descriptor[40..72])))
}

/// Microsoft's FAT specification 1.03: the boot sector says where the root directory is, and both may hold a label. Tools differ in which
/// of them they write.
fn fat(volume: &mut (impl Read + Seek)) -> io::Result<Option<Vec<String>>> {
    const EXTENDED: [u8; 2] = [0x28, 0x29];
    let Some(boot) = at::<512>(volume, 0)? else { return Ok(None) };
    let Some(layout) = FatLayout::of(&boot) else { return Ok(None) };
    let (signature, label) = if layout.is_fat32 { (boot[66], &boot[71..82]) } else { (boot[38], &boot[43..54]) };
    let in_boot = EXTENDED.contains(&signature).then(|| text(label));
    let in_root = root_label(volume, &layout)?;
    Ok(Some(in_root.into_iter().chain(in_boot).filter(|label| label != "NO NAME" && !label.is_empty()).collect()))
}

struct FatLayout {
    is_fat32: bool,
    /// Where the root directory begins, and how much of it is looked at.
    root_offset: u64,
    root_bytes: u64,
}

/// The label is among the first entries of a root directory, if anywhere.
const MOST_OF_ROOT_BYTES: u64 = 64 * 1024;

impl FatLayout {
    /// `None` for a boot sector that is none of FAT's.
    fn of(boot: &[u8; 512]) -> Option<FatLayout> {
        let u16 = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32 = |at: usize| u64::from(u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]));
        let (sector, per_cluster, reserved, tables, entries) = (u16(11), u64::from(boot[13]), u16(14), u64::from(boot[16]), u16(17));
        let (short, long) = (u16(22), u32(36));
        let jumps = matches!(boot[0], 0xeb | 0xe9) && boot[510..512] == [0x55, 0xaa];
        let sized = matches!(sector, 512 | 1024 | 2048 | 4096) && per_cluster.is_power_of_two();
        let media = boot[21] == 0xf0 || boot[21] >= 0xf8;
        if !jumps || !sized || !media || reserved == 0 || tables == 0 {
            return None;
        }
        // FAT32 has no fixed root directory and counts its tables' sectors elsewhere.
        let is_fat32 = short == 0;
        if is_fat32 {
            let cluster = u32(44).checked_sub(2)?;
            let root = reserved + tables * long + cluster * per_cluster;
            return Some(FatLayout { is_fat32, root_offset: root * sector, root_bytes: MOST_OF_ROOT_BYTES.min(per_cluster * sector) });
        }
        let root = reserved + tables * short;
        Some(FatLayout { is_fat32, root_offset: root * sector, root_bytes: MOST_OF_ROOT_BYTES.min(entries * 32) })
    }
}

fn root_label(volume: &mut (impl Read + Seek), layout: &FatLayout) -> io::Result<Option<String>> {
    const END: u8 = 0;
    const DELETED: u8 = 0xe5;
    const VOLUME_ID: u8 = 0x08;
    const LONG_NAME: u8 = 0x0f;
    volume.seek(SeekFrom::Start(layout.root_offset))?;
    let mut root = Vec::new();
    volume.take(layout.root_bytes).read_to_end(&mut root)?;
    let entries = root.chunks_exact(32).take_while(|entry| entry[0] != END);
    let mut labels = entries.filter(|entry| entry[0] != DELETED && entry[11] & VOLUME_ID != 0 && entry[11] != LONG_NAME);
    Ok(labels.next().map(|entry| text(&entry[..11])))
}

/// That many bytes; `None` where the volume ends before.
fn at<const N: usize>(volume: &mut (impl Read + Seek), offset: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    volume.seek(SeekFrom::Start(offset))?;
    match volume.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Labels are padded with spaces.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neither_file_system() {
        for bytes in [Vec::new(), vec![0; 100], vec![0; 1 << 20], vec![0xff; 1 << 20]] {
            assert_eq!(read(&mut Cursor::new(bytes)).unwrap(), None);
        }
        // A disk with a partition table has the same signature and no parameters of FAT.
        let mut disk = vec![0; 1 << 20];
        disk[0] = 0xeb;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(read(&mut Cursor::new(disk)).unwrap(), None);
    }

    proptest! {
        /// Whatever stands in a boot sector, it is an answer or an error, and not much of the volume is read.
        #[test]
        fn any_boot_sector(mut boot in proptest::collection::vec(any::<u8>(), 512), sane in any::<bool>()) {
            if sane {
                boot[0] = 0xeb;
                boot[11..14].copy_from_slice(&[0, 2, 8]);
                boot[21] = 0xf8;
                boot[510..512].copy_from_slice(&[0x55, 0xaa]);
            }
            boot.resize(256 * 1024, 0);
            let _ = read(&mut Cursor::new(boot));
        }
    }
}
