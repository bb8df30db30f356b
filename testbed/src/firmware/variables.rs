//! What a machine's firmware remembers, read from the file that keeps it: boot options above all.
//!
//! Sources: UEFI Platform Initialization specification 1.8, volume 3, 3.2.1 (firmware volume header); EDK II,
//! MdeModulePkg/Include/Guid/VariableFormat.h (variable store of authenticated variables); UEFI 2.10, 3.1.3 (load options) and
//! 10.3.5 (media device paths). Numbers are little-endian.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::Error;

/// `EFI_GLOBAL_VARIABLE`, as its 16 bytes stand in the store: boot options and Secure Boot's `PK` and `KEK`.
pub const GLOBAL: [u8; 16] = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];

/// `EFI_AUTHENTICATED_VARIABLE_GUID`: what kind of store it is.
const AUTHENTICATED_STORE: [u8; 16] = [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];
const VOLUME_SIGNATURE: &[u8] = b"_FVH";
const STORE_HEADER_BYTES: usize = 28;
const VARIABLE_HEADER_BYTES: usize = 60;
pub(super) const VARIABLE_MARK: u16 = 0x55aa;
/// State of a variable that was added.
pub(super) const STORED: u8 = 0x3f;
/// States of a variable that counts: added, and added while its successor is being written.
const ADDED: [u8; 2] = [STORED, 0x3e];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// The vendor's GUID, as it stands in the store.
    pub vendor: [u8; 16],
    pub value: Vec<u8>,
}

/// A `Boot####` variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOption {
    pub number: u16,
    /// Whether it is tried by itself.
    pub active: bool,
    pub description: String,
    /// The file that it names, such as `\EFI\systemd\systemd-bootx64.efi`; none where it names a device only.
    pub file: Option<String>,
}

/// All variables of a machine. While it runs, what it is writing may be missing.
pub fn read(file: &Path) -> Result<Vec<Variable>, Error> {
    let bytes = fs::read(file).map_err(Error::file("read", file))?;
    variables(&bytes).ok_or_else(|| Error::NoVariables { path: file.to_owned() })
}

/// The boot options in the order in which the firmware tries them; those that `BootOrder` does not name are left out.
pub fn boot_options(variables: &[Variable]) -> Vec<BootOption> {
    let global = |name: &str| variables.iter().find(|variable| variable.vendor == GLOBAL && variable.name == name);
    let order = global("BootOrder").map(|variable| variable.value.as_slice()).unwrap_or_default();
    let numbers = order.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    numbers.filter_map(|number| boot_option(number, &global(&format!("Boot{number:04X}"))?.value)).collect()
}

fn variables(bytes: &[u8]) -> Option<Vec<Variable>> {
    walk(bytes).map(|(found, _)| found)
}

/// What of the store no variable was written to yet.
pub(super) fn free(bytes: &[u8]) -> Option<Range<usize>> {
    walk(bytes).map(|(_, free)| free)
}

fn walk(bytes: &[u8]) -> Option<(Vec<Variable>, Range<usize>)> {
    if bytes.get(40..44)? != VOLUME_SIGNATURE {
        return None;
    }
    let store = usize::from(u16_at(bytes, 48)?);
    if bytes.get(store..store + 16)? != AUTHENTICATED_STORE {
        return None;
    }
    let end = store + u32_at(bytes, store + 16)?;
    let mut at = store + STORE_HEADER_BYTES;
    let mut found = Vec::new();
    while at + VARIABLE_HEADER_BYTES <= end && u16_at(bytes, at)? == VARIABLE_MARK {
        let (name_bytes, value_bytes) = (u32_at(bytes, at + 36)?, u32_at(bytes, at + 40)?);
        let name = at + VARIABLE_HEADER_BYTES;
        let value = name + name_bytes;
        if ADDED.contains(bytes.get(at + 2)?) {
            found.push(Variable {
                name: text(bytes.get(name..value)?).0,
                vendor: bytes.get(at + 44..at + 60)?.try_into().ok()?,
                value: bytes.get(value..value + value_bytes)?.to_vec(),
            });
        }
        at = (value + value_bytes).next_multiple_of(4);
    }
    Some((found, at..end))
}

fn boot_option(number: u16, value: &[u8]) -> Option<BootOption> {
    let (attributes, path_bytes) = (u32_at(value, 0)?, usize::from(u16_at(value, 4)?));
    let (description, length) = text(value.get(6..)?);
    let path = value.get(6 + length..6 + length + path_bytes)?;
    Some(BootOption { number, active: attributes & 1 != 0, description, file: file_path(path) })
}

/// The file of a device path: nodes of type, subtype, length and content; media (4), file path (4).
fn file_path(mut path: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (path.get(..2)?, usize::from(u16_at(path, 2)?));
        let content = path.get(4..length)?;
        if kind == [4, 4] {
            return Some(text(content).0);
        }
        path = path.get(length..)?;
    }
}

/// UTF-16 up to a NUL, and the bytes that it takes with that.
fn text(bytes: &[u8]) -> (String, usize) {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).take_while(|unit| *unit != 0).collect();
    (String::from_utf16_lossy(&units), (units.len() + 1) * 2)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Firmware;
    use crate::firmware::Keys;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn stored(state: u8, name: &str, value: &[u8]) -> Vec<u8> {
        let name = utf16(name);
        let mut out = vec![0xaa, 0x55, state, 0];
        out.resize(36, 0);
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(GLOBAL);
        out.extend(name);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0xff);
        out
    }

    fn store(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 40];
        out.extend(VOLUME_SIGNATURE);
        out.resize(48, 0);
        out.extend(72_u16.to_le_bytes());
        out.resize(72, 0);
        out.extend(AUTHENTICATED_STORE);
        out.extend(4096_u32.to_le_bytes());
        out.resize(72 + STORE_HEADER_BYTES, 0);
        out.extend(content);
        out.resize(72 + 4096, 0xff);
        out
    }

    fn option(description: &str, file: &str) -> Vec<u8> {
        let file = utf16(file);
        let mut path = vec![4, 1, 42, 0];
        path.resize(42, 7);
        path.extend([4, 4]);
        path.extend((4 + file.len() as u16).to_le_bytes());
        path.extend(file);
        path.extend([0x7f, 0xff, 4, 0]);
        [1_u32.to_le_bytes().as_slice(), &(path.len() as u16).to_le_bytes(), &utf16(description), &path].concat()
    }

    #[test]
    fn boot_options_come_in_their_order_and_old_values_do_not_count() {
        let bytes = store(
            &[
                stored(0x3c, "BootOrder", &[9, 0]),
                stored(0x3f, "Boot0001", &option("Corten", "\\EFI\\systemd\\systemd-bootx64.efi")),
                stored(0x3f, "Boot001A", &option("again", "\\x")),
                stored(0x3f, "BootOrder", &[0x1a, 0, 1, 0, 2, 0]),
            ]
            .concat(),
        );
        let options = boot_options(&variables(&bytes).expect("a store"));
        let seen: Vec<_> = options.iter().map(|o| (o.number, o.active, o.description.as_str(), o.file.as_deref())).collect();
        let expected = [(0x1a, true, "again", Some("\\x")), (1, true, "Corten", Some("\\EFI\\systemd\\systemd-bootx64.efi"))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_no_store_is_refused() {
        assert_eq!(variables(&[0; 4096]), None);
        assert_eq!(variables(&store(&[])[..60]), None);
        assert_eq!(variables(&store(&[])), Some(vec![]));
    }

    #[test]
    fn the_templates_of_the_host_hold_the_keys_that_they_are_named_for() {
        let platform_key = |keys| {
            let firmware = Firmware::find_secure(keys).expect("OVMF with Secure Boot (Debian: ovmf)");
            let variables = read(&firmware.variables).expect("variables");
            variables.into_iter().find(|variable| variable.name == "PK" && variable.vendor == GLOBAL)
        };
        assert_eq!(platform_key(Keys::None), None);
        assert!(platform_key(Keys::Snakeoil).is_some_and(|key| key.value.len() > 500));
    }
}
