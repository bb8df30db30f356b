//! Where distributions keep OVMF, the UEFI firmware for QEMU.

use std::path::{Path, PathBuf};

use crate::Error;

/// Code, which is shared, and variables, of which each machine has its own copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    pub code: PathBuf,
    pub variables: PathBuf,
}

/// Debian and Ubuntu; Fedora; Arch; openSUSE. Both files of a pair have the same size class and must not be mixed.
const PLACES: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

impl Firmware {
    /// The first pair that the host has.
    pub fn find() -> Result<Firmware, Error> {
        Firmware::find_below(Path::new("/"))
    }

    fn find_below(root: &Path) -> Result<Firmware, Error> {
        let at = |absolute: &str| root.join(absolute.trim_start_matches('/'));
        PLACES
            .iter()
            .map(|(code, variables)| Firmware { code: at(code), variables: at(variables) })
            .find(|firmware| firmware.code.is_file() && firmware.variables.is_file())
            .ok_or_else(|| Error::NoFirmware { looked_at: PLACES.map(|(code, _)| code).join(", ") })
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
        assert!(matches!(Firmware::find_below(root.path()), Err(Error::NoFirmware { .. })));
        put("usr/share/edk2/ovmf/OVMF_CODE.fd");
        put("usr/share/edk2/ovmf/OVMF_VARS.fd");
        let found = Firmware::find_below(root.path()).expect("a pair");
        assert!(found.code.ends_with("edk2/ovmf/OVMF_CODE.fd"));
    }
}
