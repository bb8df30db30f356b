//! What the boot loader finds on the ESP, as image-build and the installer write it first and upgrades write it again: paths and texts (UAPI
//! Boot Loader Specification). The firmware starts systemd-boot, systemd-boot one slot's UKI.

use crate::disk::Slot;

/// `loader.conf`: nobody waits at a menu, nobody edits a command line. No default is set, because it would win over boot counting.
pub const LOADER_CONFIG: &str = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n";
pub const LOADER_CONFIG_PATH: &str = "loader/loader.conf";

/// systemd-boot: where a firmware without boot options looks (UEFI 2.10, 3.5.1.1), and where boot options point to.
pub const FALLBACK_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
pub const LOADER: &str = "EFI/systemd/systemd-bootx64.efi";

/// Directory of the slots' UKIs. Not below `EFI/Linux`, or the loader would make entries of its own.
pub const IMAGES: &str = "corten";
/// Directory of the entries.
pub const ENTRIES: &str = "loader/entries";

/// A slot's UKI.
pub fn image_path(slot: Slot) -> String {
    format!("{IMAGES}/{}.efi", slot.name())
}

/// How an entry calls an image.
pub fn title(version: &str, profile: &str) -> String {
    format!("Corten {version} ({profile})")
}

/// The entry that starts a slot's UKI. Of two entries the loader takes the one with the higher sequence number.
pub fn entry(slot: Slot, title: &str, sequence: u64) -> String {
    format!("title {title}\nversion {sequence}\nsort-key corten\nefi /{}\n", image_path(slot))
}

/// The entry of slot A as an image or an installation brings it: known to be good, so without a counter.
pub fn first_entry(version: &str, profile: &str) -> String {
    entry(Slot::A, &title(version, profile), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_starts_its_slot() {
        let first = "title Corten 1.2.3 (worker)\nversion 1\nsort-key corten\nefi /corten/a.efi\n";
        assert_eq!(first_entry("1.2.3", "worker"), first);
        assert!(entry(Slot::B, &title("2", "bare"), 12).ends_with("version 12\nsort-key corten\nefi /corten/b.efi\n"));
    }
}
