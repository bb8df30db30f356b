//! Where distributions keep OVMF, the UEFI firmware for QEMU.

pub mod enrolled;
pub mod variables;

use std::path::{Path, PathBuf};

use crate::Error;

/// Code, which is shared, and variables, of which each machine has its own copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    pub code: PathBuf,
    /// The template of a machine's variables.
    pub variables: PathBuf,
    /// Whether it is a build that can enforce Secure Boot. It needs a chipset with system management mode, whose code alone may then write
    /// the variables. What it enforces, the keys in the variables say.
    pub secure_boot: bool,
}

/// Keys that a machine with Secure Boot comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// None: setup mode, in which keys can be enrolled, and anything boots until then.
    None,
    /// Debian's key for tests ([`SNAKEOIL_KEY`]) as platform key, key exchange key and the only signer.
    Snakeoil,
}

/// Private key to Debian's certificate for tests; its passphrase is `snakeoil`.
pub const SNAKEOIL_KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
pub const SNAKEOIL_CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";

/// Debian and Ubuntu; Fedora; Arch; openSUSE. Both files of a pair have the same size class and must not be mixed.
const PLACES: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

/// Builds that can enforce Secure Boot, with variables that hold no keys. Debian and Ubuntu; Fedora; Arch.
const SECURE_PLACES: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

/// Debian and Ubuntu alone have these.
const SNAKEOIL_PLACES: &[(&str, &str)] = &[("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")];

impl Firmware {
    /// The first pair that the host has.
    pub fn find() -> Result<Firmware, Error> {
        Firmware::find_below(Path::new("/"), PLACES, false)
    }

    /// The first pair that the host has with Secure Boot. For other keys, put a file that holds them into `variables` ([`enrolled::enrol`]).
    pub fn find_secure(keys: Keys) -> Result<Firmware, Error> {
        let places = match keys {
            Keys::None => SECURE_PLACES,
            Keys::Snakeoil => SNAKEOIL_PLACES,
        };
        Firmware::find_below(Path::new("/"), places, true)
    }

    fn find_below(root: &Path, places: &[(&str, &str)], secure_boot: bool) -> Result<Firmware, Error> {
        let at = |absolute: &str| root.join(absolute.trim_start_matches('/'));
        places
            .iter()
            .map(|(code, variables)| Firmware { code: at(code), variables: at(variables), secure_boot })
            .find(|firmware| firmware.code.is_file() && firmware.variables.is_file())
            .ok_or_else(|| Error::NoFirmware { looked_at: places.iter().map(|(code, _)| *code).collect::<Vec<_>>().join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_whole_pair_only() {
        let root = tempfile::tempdir().expect("temporary directory");
        let put = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            std::fs::write(path, "").expect("file");
        };
        put("usr/share/OVMF/OVMF_CODE_4M.fd");
        assert!(matches!(Firmware::find_below(root.path(), PLACES, false), Err(Error::NoFirmware { .. })));
        put("usr/share/edk2/ovmf/OVMF_CODE.fd");
        put("usr/share/edk2/ovmf/OVMF_VARS.fd");
        let found = Firmware::find_below(root.path(), PLACES, false).expect("a pair");
        assert!(found.code.ends_with("edk2/ovmf/OVMF_CODE.fd"));
    }
}
