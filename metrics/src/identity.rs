//! Which machine this is, by the names that the kubelet tells in a Node's `status.nodeInfo`.

use std::fs;
use std::path::Path;

/// What is not told anywhere is empty, as cAdvisor has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Another with each boot.
    pub boot_id: String,
    /// machine-id(5).
    pub machine_id: String,
    /// The hardware's own, by its firmware (SMBIOS); the machine id where that tells none.
    pub system_uuid: String,
}

impl Identity {
    /// Of the machine whose file systems are mounted below `root`.
    pub fn read(root: &Path) -> Identity {
        let read = |path: &str| fs::read_to_string(root.join(path)).map(|text| text.trim().to_owned()).unwrap_or_default();
        let machine_id = read("etc/machine-id");
        // As cAdvisor does where firmware tells none.
        let system_uuid = Some(read("sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty()).unwrap_or_else(|| machine_id.clone());
        Identity { boot_id: read("proc/sys/kernel/random/boot_id"), machine_id, system_uuid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_empty() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(root.path()), Identity::default());
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let machine_id = "0123456789abcdef0123456789abcdef".to_owned();
        let system_uuid = machine_id.clone();
        assert_eq!(Identity::read(root.path()), Identity { machine_id, system_uuid, ..Identity::default() });
        assert_eq!(Identity::read(Path::new("/")).boot_id.len(), 36);
    }
}
