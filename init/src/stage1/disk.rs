//! Waits for the disk that was booted to appear.

use std::fs;
use std::time::Duration;

use machine::Root;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::block::{self, Hint, NoDisk};
use crate::cmdline::CommandLine;
use crate::{clock, uevent};

/// Longer than spinning disks behind a controller take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A safety net: every change comes with an event.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Vendor GUID of the Boot Loader Interface's variables (systemd.io/BOOT_LOADER_INTERFACE).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What points to the disk: the boot loader first, then the command line.
pub fn hint(root: &Root, line: &CommandLine) -> Hint {
    if let Some(guid) = loader_variable(root, "LoaderDevicePartUUID") {
        return Hint::LoaderPartition(guid.to_ascii_lowercase());
    }
    match &line.disk {
        Some(name) => Hint::Named(name.clone()),
        None => Hint::Nothing,
    }
}

/// The boot loader's entry that was chosen, such as `corten-b+2-1.conf`.
pub fn selected_entry(root: &Root) -> Option<String> {
    loader_variable(root, "LoaderEntrySelected")
}

/// Waits until the disk is there.
pub fn wait(root: &Root, hint: &Hint) -> Result<String, NoDisk> {
    // Opened before the first look, so that nothing falls between the two.
    let events = uevent::open().ok();
    let deadline = clock::since_boot() + PATIENCE;
    loop {
        let found = block::booted_disk(&block::read(root).unwrap_or_default(), hint);
        if found.is_ok() || clock::since_boot() >= deadline {
            return found;
        }
        match &events {
            Some(events) => {
                let _ = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&LOOK_AGAIN));
                while let Ok(Some(_)) = uevent::receive(events) {}
            }
            None => {
                let _ = poll(&mut [], Some(&LOOK_AGAIN));
            }
        }
    }
}

fn loader_variable(root: &Root, name: &str) -> Option<String> {
    let content = fs::read(root.path(&format!("/sys/firmware/efi/efivars/{name}-{LOADER}"))).ok()?;
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

    #[test]
    fn loader_variable_points_before_the_command_line() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let line = CommandLine { disk: Some("vdb".into()), ..CommandLine::default() };
        assert_eq!(hint(&root, &line), Hint::Named("vdb".into()));
        assert_eq!(hint(&root, &CommandLine::default()), Hint::Nothing);

        let variables = root.path("/sys/firmware/efi/efivars");
        fs::create_dir_all(&variables).expect("make");
        let mut content = vec![6, 0, 0, 0];
        content.extend("AB-12\0".encode_utf16().flat_map(u16::to_le_bytes));
        fs::write(variables.join(format!("LoaderDevicePartUUID-{LOADER}")), &content).expect("write");
        assert_eq!(hint(&root, &line), Hint::LoaderPartition("ab-12".into()));
    }

    #[test]
    fn variables_that_are_cut_short_are_no_hint() {
        assert_eq!(decode(b"\x06\0\0"), None);
        assert_eq!(decode(b"\x06\0\0\0"), Some(String::new()));
        assert_eq!(decode(b"\x06\0\0\0a\0b"), Some("a".into()));
        assert_eq!(decode(b"\x06\0\0\0\x00\xd8"), None, "half a surrogate pair");
    }
}
