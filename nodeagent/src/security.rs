//! How this boot was checked and measured, for whoever wants to know what the machine runs before trusting it.
//!
//! reads: the SecureBoot variable, the kernel's lockdown, TPM registers   writes: security

use std::fs;
use std::io::ErrorKind;

use machine::Root;

use crate::node::Node;
use crate::resources::security::{SecureBoot, Security};

const FIRMWARE: &str = "/sys/firmware/efi";
/// EFI_GLOBAL_VARIABLE, UEFI 2.10 section 3.3. Its file begins with four bytes of attributes (Linux, efivarfs).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const ATTRIBUTES_BYTES: usize = 4;
/// The chosen state stands in brackets (Linux, security/lockdown/lockdown.c).
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Sixty-four upper-case digits and a line feed (Linux, Documentation/ABI/stable/sysfs-class-tpm).
const PCR_11: &str = "/sys/class/tpm/tpm0/pcr-sha256/11";

/// Looks once and tells.
pub fn publish(node: &Node) {
    node.store.put(Security::NAME, &read(&node.root));
}

fn read(root: &Root) -> Security {
    let pcr11 = fs::read_to_string(root.path(PCR_11)).map(|text| text.trim().to_ascii_lowercase()).unwrap_or_default();
    let lockdown = fs::read_to_string(root.path(LOCKDOWN)).unwrap_or_default();
    Security { secure_boot: secure_boot(root), lockdown: chosen(&lockdown), tpm: !pcr11.is_empty(), pcr11 }
}

/// `integrity` of `none [integrity] confidentiality`
fn chosen(states: &str) -> String {
    let state = states.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(state, _)| state);
    state.unwrap_or_default().to_owned()
}

/// Whether the firmware checked what it started.
pub fn secure_boot(root: &Root) -> SecureBoot {
    match fs::read(root.path(SECURE_BOOT)).map(|variable| variable.get(ATTRIBUTES_BYTES).copied()) {
        Ok(Some(0)) => SecureBoot::Off,
        Ok(Some(1)) => SecureBoot::On,
        Err(error) if error.kind() == ErrorKind::NotFound => without_variable(root),
        Ok(_) | Err(_) => SecureBoot::Unknown,
    }
}

/// Firmware without UEFI has no variables at all; firmware without Secure Boot has others.
fn without_variable(root: &Root) -> SecureBoot {
    let variables = fs::read_dir(root.path(FIRMWARE).join("efivars")).map(|entries| entries.count());
    match variables {
        _ if !root.path(FIRMWARE).exists() => SecureBoot::Off,
        Ok(count) if count > 0 => SecureBoot::Off,
        Ok(_) | Err(_) => SecureBoot::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_off_only_where_that_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert_eq!(secure_boot(&root), SecureBoot::Off, "no UEFI");
        let variables = root.path("/sys/firmware/efi/efivars");
        fs::create_dir_all(&variables).unwrap();
        assert_eq!(secure_boot(&root), SecureBoot::Unknown, "efivarfs is not mounted");
        fs::write(variables.join("BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"), [7, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!(secure_boot(&root), SecureBoot::Off, "firmware without Secure Boot");
        for (content, seen) in [
            (&[6, 0, 0, 0, 0][..], SecureBoot::Off),
            (&[6, 0, 0, 0, 1], SecureBoot::On),
            (&[6, 0, 0, 0, 7], SecureBoot::Unknown),
            (&[6, 0, 0], SecureBoot::Unknown),
        ] {
            fs::write(root.path(SECURE_BOOT), content).unwrap();
            assert_eq!(secure_boot(&root), seen, "{content:?}");
        }
    }

    #[test]
    fn what_the_machine_does_not_have_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let nothing = Security { secure_boot: SecureBoot::Off, lockdown: String::new(), tpm: false, pcr11: String::new() };
        assert_eq!(read(&root), nothing);
        for (path, text) in [(LOCKDOWN, "none [integrity] confidentiality\n".to_owned()), (PCR_11, format!("{}\n", "AB".repeat(32)))] {
            let path = root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(read(&root), Security { lockdown: "integrity".to_owned(), tpm: true, pcr11: "ab".repeat(32), ..nothing });
    }
}
