//! What systemd-boot tells the system that it started, in EFI variables (systemd.io/BOOT_LOADER_INTERFACE).

use std::fs;

use machine::Root;

/// Vendor GUID of the variables.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The boot loader's word on this boot. Without a boot loader, or without efivarfs, all is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loader {
    /// GUID of the partition that it was started from, lower case. An optical drive has none.
    pub partition: Option<String>,
    /// File name of the entry that was chosen, such as `corten-b+2-1.conf`.
    pub entry: Option<String>,
    /// Whether it counts the tries of that entry.
    pub counted: bool,
}

/// Reads the variables.
pub fn read(root: &Root) -> Loader {
    let selected = variable(root, "LoaderEntrySelected");
    // Only there when the entry has counters: the path that the entry has since this boot was counted. An image that could not be loaded
    // leaves its own, which lasts until the power goes or the machine restarts, and the loader does not take it back.
    let counted = variable(root, "LoaderBootCountPath")
        .and_then(|path| path.rsplit(['\\', '/']).next().map(str::to_owned))
        .filter(|name| !name.is_empty() && selected.as_deref().is_none_or(|selected| without_counters(selected) == without_counters(name)));
    Loader {
        partition: variable(root, "LoaderDevicePartUUID").map(|guid| guid.to_ascii_lowercase()),
        counted: counted.is_some(),
        entry: counted.or(selected),
    }
}

/// `corten-b` of `corten-b+2-1.conf`.
fn without_counters(entry: &str) -> &str {
    let name = entry.strip_suffix(".conf").unwrap_or(entry);
    name.split_once('+').map_or(name, |(name, _)| name)
}

fn variable(root: &Root, name: &str) -> Option<String> {
    let content = fs::read(root.path(&format!("/sys/firmware/efi/efivars/{name}-{VENDOR}"))).ok()?;
    decode(&content).filter(|text| !text.is_empty())
}

/// A variable's file: four bytes of attributes, then UTF-16 ended by zero.
fn decode(content: &[u8]) -> Option<String> {
    let units: Vec<u16> = content
        .get(4..)?
        .chunks_exact(2)
        .map(|pair| pair.iter().rev().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(variables: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let folder = root.path("/sys/firmware/efi/efivars");
        fs::create_dir_all(&folder).expect("make");
        for (name, value) in variables {
            let mut content = vec![6, 0, 0, 0];
            content.extend(format!("{value}\0").encode_utf16().flat_map(u16::to_le_bytes));
            fs::write(folder.join(format!("{name}-{VENDOR}")), &content).expect("write");
        }
        (directory, root)
    }

    #[test]
    fn counted_entry_has_the_name_that_the_loader_gave_it() {
        let chosen = ("LoaderEntrySelected", "corten-b+3.conf");
        let (_directory, root) =
            machine(&[("LoaderDevicePartUUID", "AB-12"), chosen, ("LoaderBootCountPath", "\\loader\\entries\\corten-b+2-1.conf")]);
        let expected = Loader { partition: Some("ab-12".into()), entry: Some("corten-b+2-1.conf".into()), counted: true };
        assert_eq!(read(&root), expected);

        let (_directory, root) = machine(&[("LoaderEntrySelected", "corten-a.conf")]);
        assert_eq!(read(&root), Loader { partition: None, entry: Some("corten-a.conf".into()), counted: false });

        // Three tries of an image that could not be loaded, in one power-on, and then this one.
        let (_directory, root) =
            machine(&[("LoaderEntrySelected", "corten-a.conf"), ("LoaderBootCountPath", "\\loader\\entries\\corten-b+0-3.conf")]);
        assert_eq!(read(&root), Loader { partition: None, entry: Some("corten-a.conf".into()), counted: false });

        let (_directory, root) = machine(&[("LoaderBootCountPath", "\\loader\\entries\\corten-b+0-3.conf")]);
        assert!(read(&root).counted, "a loader that does not say more");

        let (_directory, root) = machine(&[]);
        assert_eq!(read(&root), Loader::default());
    }

    #[test]
    fn variables_that_are_cut_short_say_nothing() {
        assert_eq!(decode(b"\x06\0\0"), None);
        assert_eq!(decode(b"\x06\0\0\0"), Some(String::new()));
        assert_eq!(decode(b"\x06\0\0\0a\0b"), Some("a".into()));
        assert_eq!(decode(b"\x06\0\0\0\x00\xd8"), None, "half a surrogate pair");
    }
}
