//! What decides which sources are asked: the platform, the kernel command line, and whether the firmware checked what it booted.

use std::fs;
use std::io::ErrorKind;

use machine::Root;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// As the image says it: `metal`, `aws`, ...; empty where it says nothing.
    pub platform: String,
    /// Value of the kernel parameter `corten.config`.
    pub url: Option<String>,
    pub secure_boot: SecureBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    On,
    /// Off, or firmware that has none.
    Off,
    /// There is UEFI, but its variables cannot be read.
    Unknown,
}

const FIRMWARE: &str = "/sys/firmware/efi";
/// EFI_GLOBAL_VARIABLE, UEFI 2.10 section 3.3. Its file begins with four bytes of attributes (Linux, efivarfs).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const ATTRIBUTES_BYTES: usize = 4;

/// Looks.
pub fn read(root: &Root, platform: String) -> Facts {
    let command_line = fs::read_to_string(root.path("/proc/cmdline")).unwrap_or_default();
    Facts { platform, url: parameter(&command_line, "corten.config"), secure_boot: secure_boot(root) }
}

/// The last one counts, as with the kernel's own parameters; its value may stand in quotes.
fn parameter(command_line: &str, name: &str) -> Option<String> {
    let mut values = command_line.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.next_back().map(|value| value.trim_matches('"').to_owned())
}

fn secure_boot(root: &Root) -> SecureBoot {
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
    fn the_last_parameter_counts() {
        let line = "quiet corten.config=http://192.0.2.1/a corten.configs=x corten.config=\"http://192.0.2.1/b\"\n";
        assert_eq!(parameter(line, "corten.config").as_deref(), Some("http://192.0.2.1/b"));
        assert_eq!(parameter("quiet xcorten.config=http://192.0.2.1/a", "corten.config"), None);
    }

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
}
