//! Firmware that trusts keys of a test's own: variables with PK, KEK and db in them, as enrolling leaves them.
//!
//! Sources: UEFI 2.10, 8.2.2 (`EFI_VARIABLE_AUTHENTICATION_2`, what a signed variable's file begins with), 32.6 (names and vendors); EDK II,
//! MdeModulePkg/Include/Guid/VariableFormat.h (`AUTHENTICATED_VARIABLE_HEADER`). Numbers are little-endian.

use std::fs;
use std::path::Path;

use super::variables::{GLOBAL, STORED, VARIABLE_MARK, free};
use crate::Error;

/// `EFI_IMAGE_SECURITY_DATABASE_GUID`
const IMAGE_SECURITY: [u8; 16] = [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
const VARIABLES: [(&str, [u8; 16]); 3] = [("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY)];
/// Kept without power, for boot services and at run time, changed by who signs a later date.
const ATTRIBUTES: u32 = 0x27;
/// The date in front of a signature.
const DATE_BYTES: usize = 16;

/// Writes variables to `out`: those of `template`, which have no keys, and the ones that `PK.auth`, `KEK.auth` and `db.auth` in the folder
/// bring (`image-build keys new --secure-boot`). Who signed these is not looked at: neither does firmware without a platform key.
pub fn enrol(template: &Path, folder: &Path, out: &Path) -> Result<(), Error> {
    let mut bytes = fs::read(template).map_err(Error::file("read", template))?;
    let no_room = || Error::NoVariables { path: template.to_owned() };
    for (name, vendor) in VARIABLES {
        let path = folder.join(format!("{name}.auth"));
        let signed = fs::read(&path).map_err(Error::file("read", &path))?;
        let variable = variable(name, vendor, &signed).ok_or(Error::NoSignedVariable { path })?;
        let free = free(&bytes).filter(|free| free.len() >= variable.len()).ok_or_else(no_room)?;
        bytes[free.start..free.start + variable.len()].copy_from_slice(&variable);
    }
    fs::write(out, bytes).map_err(Error::file("write", out))
}

/// As the store holds it.
fn variable(name: &str, vendor: [u8; 16], signed: &[u8]) -> Option<Vec<u8>> {
    let date = signed.get(..DATE_BYTES)?;
    let signature_bytes = u32::from_le_bytes(signed.get(DATE_BYTES..DATE_BYTES + 4)?.try_into().ok()?);
    let value = signed.get(DATE_BYTES + usize::try_from(signature_bytes).ok()?..).filter(|value| !value.is_empty())?;
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut out = VARIABLE_MARK.to_le_bytes().to_vec();
    out.extend([STORED, 0]);
    out.extend(ATTRIBUTES.to_le_bytes());
    // The count that older kinds of signed variables have.
    out.extend([0; 8]);
    out.extend(date);
    out.extend([0; 4]);
    out.extend(u32::try_from(name.len()).ok()?.to_le_bytes());
    out.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
    out.extend(vendor);
    out.extend(name);
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0xff);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Firmware, Keys, variables};
    use super::*;

    #[test]
    fn the_firmware_reads_what_was_enrolled() {
        let folder = tempfile::tempdir().expect("temporary directory");
        for (name, _) in VARIABLES {
            // A date, a signature of eight bytes with its length in front, the value.
            let signed = [[7; DATE_BYTES].as_slice(), &12_u32.to_le_bytes(), &[1; 8], format!("list of {name}").as_bytes()].concat();
            fs::write(folder.path().join(format!("{name}.auth")), signed).expect("write");
        }
        let template = Firmware::find_secure(Keys::None).expect("OVMF with Secure Boot (Debian: ovmf)").variables;
        let out = folder.path().join("variables.fd");
        enrol(&template, folder.path(), &out).expect("enrolled");
        let before = variables::read(&template).expect("variables");
        let after = variables::read(&out).expect("variables");
        let new: Vec<_> = after.iter().filter(|variable| !before.contains(variable)).collect();
        let seen: Vec<_> = new.iter().map(|v| (v.name.as_str(), v.vendor, String::from_utf8_lossy(&v.value).into_owned())).collect();
        assert_eq!(seen, VARIABLES.map(|(name, vendor)| (name, vendor, format!("list of {name}"))));
        assert_eq!(fs::metadata(&template).expect("there").len(), fs::metadata(&out).expect("there").len());

        fs::write(folder.path().join("db.auth"), [0; 18]).expect("write");
        let error = enrol(&template, folder.path(), &out).unwrap_err().to_string();
        assert!(error.contains("db.auth is no signed variable"), "{error}");
    }
}
