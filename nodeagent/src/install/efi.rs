//! Tells the firmware to start the disk's boot loader, by variables that efivarfs shows (UEFI 2.10, 3.1.3 and 3.3; kernel's efivarfs.rst).
//!
//! Several times the same: when an image cannot be loaded at all, the loader gives up and the firmware goes on with its next option. With
//! an option for each try of an upgrade, and one more, the tries run out and the old image starts within one power-on, where firmware would
//! wait at its prompt for ever.

mod option;
mod plan;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use machine::Root;
use machine::disk::Partition;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use option::{BootPartition, load_option};
pub use plan::Place;
use plan::{Seen, plan};

/// Vendor GUID of the firmware's own variables (EFI_GLOBAL_VARIABLE).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// EFI_VARIABLE_NON_VOLATILE, _BOOTSERVICE_ACCESS and _RUNTIME_ACCESS: in front of a variable's value.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
const ORDER: &str = "BootOrder";
const CURRENT: &str = "BootCurrent";

/// Has the firmware start the disk's loader, in place of those of installations before, and again for as long as images are tried that often.
pub fn register(root: &Root, device: &str, sector_bytes: u64, tries: u32, place: Place) -> anyhow::Result<()> {
    let variables = Variables { directory: root.path("/sys/firmware/efi/efivars") };
    let seen = variables.read()?;
    let partition = boot_partition(root, device, sector_bytes)?;
    let options: Vec<Vec<u8>> = (1..=usize::try_from(tries)? + 1).map(|number| load_option(&plan::name(number), &partition)).collect();
    let plan = plan(&seen, &options, place)?;
    // The order names only what is there, at every instant.
    for (number, value) in &plan.write {
        variables.write(&option_name(*number), value)?;
    }
    if plan.order != seen.order {
        let value: Vec<u8> = plan.order.iter().flat_map(|number| number.to_le_bytes()).collect();
        variables.write(ORDER, &value)?;
    }
    plan.remove.iter().try_for_each(|number| variables.remove(&option_name(*number)))
}

fn option_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// The ESP as the kernel shows it.
fn boot_partition(root: &Root, device: &str, sector_bytes: u64) -> anyhow::Result<BootPartition> {
    let directory = root.path("/sys/class/block").join(device.trim_start_matches("/dev/"));
    let reading = || format!("reading {}", directory.display());
    for entry in fs::read_dir(&directory).with_context(reading)? {
        let place = entry.with_context(reading)?.path();
        let uevent = fs::read_to_string(place.join("uevent")).unwrap_or_default();
        let field = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if field("PARTNAME") != Some(Partition::Esp.label()) {
            continue;
        }
        let number = |name: &str| -> anyhow::Result<u64> {
            let path = place.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            text.trim().parse().with_context(|| format!("{}: {text:?}", path.display()))
        };
        // sysfs counts in 512 bytes, the firmware in the disk's sectors.
        let sectors = |name: &str| number(name).map(|count| count * 512 / sector_bytes);
        let (start, sectors) = (sectors("start")?, sectors("size")?);
        let number = u32::try_from(number("partition")?)?;
        let disk = root.path(device);
        let guid = match field("PARTUUID").and_then(option::guid) {
            Some(guid) => guid,
            None => guid_in_table(&disk, sector_bytes, number).with_context(|| format!("partition table of {}", disk.display()))?,
        };
        return Ok(BootPartition { number, start, sectors, guid });
    }
    anyhow::bail!("{device} has no partition {}", Partition::Esp.label())
}

/// The partition's own GUID, in the byte order of the disk. Older kernels do not tell it in sysfs. UEFI 2.10, 5.3.2 and 5.3.3: the header
/// lies in the second sector; it has the place of the entries at byte 72 and the size of one at byte 84, an entry its GUID at byte 16.
fn guid_in_table(disk: &Path, sector_bytes: u64, number: u32) -> io::Result<[u8; 16]> {
    const ENTRIES: usize = 72;
    const ENTRY_BYTES: usize = 84;
    const GUID: u64 = 16;
    let file = File::open(disk)?;
    let mut header = [0; 92];
    file.read_exact_at(&mut header, sector_bytes)?;
    if !header.starts_with(b"EFI PART") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no GPT"));
    }
    let field = |at: usize, bytes: usize| header[at..at + bytes].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let place = field(ENTRIES, 8).checked_mul(sector_bytes);
    let place = place.and_then(|start| start.checked_add(field(ENTRY_BYTES, 4) * u64::from(number.saturating_sub(1)) + GUID));
    let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "entries beyond every disk"))?;
    let mut guid = [0; 16];
    file.read_exact_at(&mut guid, place)?;
    Ok(guid)
}

/// efivarfs: a file a variable, named `<name>-<vendor>`.
struct Variables {
    directory: PathBuf,
}

impl Variables {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-{GLOBAL}"))
    }

    fn read(&self) -> anyhow::Result<Seen> {
        let entries = fs::read_dir(&self.directory).with_context(|| format!("reading {}", self.directory.display()))?;
        let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        ensure!(!names.is_empty(), "{} is empty: the machine was not started by UEFI, or shows no variables", self.directory.display());
        let number = |name: &str| {
            let digits = name.strip_suffix(GLOBAL)?.strip_suffix('-')?.strip_prefix("Boot")?;
            u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4)
        };
        let mut options = BTreeMap::new();
        for number in names.iter().filter_map(|name| number(name)) {
            options.insert(number, value(&self.path(&option_name(number)))?.unwrap_or_default());
        }
        let numbers = |name: &str| -> anyhow::Result<Vec<u16>> {
            let value = value(&self.path(name))?.unwrap_or_default();
            Ok(value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
        };
        Ok(Seen { options, order: numbers(ORDER)?, started_from: numbers(CURRENT)?.first().copied() })
    }

    /// One call of write for attributes and value: each call is a whole variable.
    fn write(&self, name: &str, value: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        let bytes = [&ATTRIBUTES, value].concat();
        let written = allow_change(&path).and_then(|()| OpenOptions::new().write(true).create(true).truncate(false).open(&path));
        written.and_then(|mut file| file.write_all(&bytes)).with_context(|| format!("writing {}", path.display()))
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        allow_change(&path).and_then(|()| fs::remove_file(&path)).with_context(|| format!("removing {}", path.display()))
    }
}

/// What follows the attributes; `None` where there is no such variable.
fn value(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.get(ATTRIBUTES.len()..).unwrap_or_default().to_vec())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The kernel makes variables that it does not know immutable, because firmware is known to die of some that are missing.
fn allow_change(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Where a file system has no such flags, none is set.
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => Ok(ioctl_setflags(&file, flags.difference(IFlags::IMMUTABLE))?),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
