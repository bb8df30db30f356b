//! The label of an ISO 9660 file system, from its primary volume descriptor (ECMA-119, 8.4).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Volume label of the installation medium that image-build writes.
pub const LABEL: &str = "CORTEN";

/// The descriptor lies in the 17th sector of 2048 bytes.
const DESCRIPTOR_AT: u64 = 16 * 2048;
/// Up to the end of the label.
const DESCRIPTOR_BYTES: usize = 72;

/// The label of what is on a device; `None` where that is no ISO 9660 file system.
pub fn label(device: &Path) -> io::Result<Option<String>> {
    let mut head = [0; DESCRIPTOR_BYTES];
    match File::open(device)?.read_exact_at(&mut head, DESCRIPTOR_AT) {
        Ok(()) => Ok(parse(&head)),
        // Smaller than that: a drive without a medium among others.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Type 1, the standard's name, version 1; the label from byte 40 is filled up with spaces.
fn parse(head: &[u8; DESCRIPTOR_BYTES]) -> Option<String> {
    let label = head.strip_prefix(b"\x01CD001\x01")?.get(33..65)?;
    Some(String::from_utf8_lossy(label).trim_end_matches([' ', '\0']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_read_from_the_descriptor() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let device = directory.path().join("sr0");
        std::fs::write(&device, b"short").expect("write");
        assert_eq!(label(&device).expect("reads"), None);

        let mut content = vec![0; 40 * 1024];
        std::fs::write(&device, &content).expect("write");
        assert_eq!(label(&device).expect("reads"), None);

        content[32768..32775].copy_from_slice(b"\x01CD001\x01");
        content[32808..32840].copy_from_slice(b"CORTEN                          ");
        // What follows the label does not belong to it.
        content[32840] = b'X';
        std::fs::write(&device, &content).expect("write");
        assert_eq!(label(&device).expect("reads").as_deref(), Some(LABEL));
        assert!(label(&directory.path().join("sr1")).is_err());
    }
}
