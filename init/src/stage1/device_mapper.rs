//! Opens a verity device through the device mapper's ioctls (linux/dm-ioctl.h). A block that does not match its hash is an I/O error.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use machine::Root;
use machine::verity::Superblock;

use super::verity;
use crate::sys::{self, DM_HEADER_BYTES};

const NAME: &str = "corten-root";
const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const LOAD: u8 = 9;
/// `DM_READONLY_FLAG`
const READ_ONLY: u32 = 1;
const SPEC_BYTES: usize = 40;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the device mapper (are its modules loaded?)")]
    Control(#[source] io::Error),
    #[error("create the verity device")]
    Create(#[source] io::Error),
    #[error("load the verity table {0:?}")]
    Load(String, #[source] io::Error),
    #[error("start the verity device")]
    Resume(#[source] io::Error),
}

/// Opens a root, its hash tree beside it, and answers its device node. Devices are `major:minor`.
pub fn open(root: &Root, data: &str, hashes: &str, superblock: &Superblock, hash: &[u8; 32]) -> Result<PathBuf, Error> {
    let table = verity::table(superblock, data, hashes, hash);
    let control = OpenOptions::new().read(true).write(true).open(root.path("/dev/mapper/control")).map_err(Error::Control)?;

    let mut message = message(0, &[]);
    sys::device_mapper(control.as_fd(), CREATE, &mut message).map_err(Error::Create)?;
    let minor = minor(&message);
    let loaded = (|| {
        let mut load = self::message(READ_ONLY, &target(superblock.sectors(), &table));
        sys::device_mapper(control.as_fd(), LOAD, &mut load).map_err(|source| Error::Load(table.clone(), source))?;
        // A suspend without the suspend flag is a resume.
        sys::device_mapper(control.as_fd(), SUSPEND, &mut self::message(READ_ONLY, &[])).map_err(Error::Resume)
    })();
    if loaded.is_err() {
        // So that the next try finds the name free.
        let _ = sys::device_mapper(control.as_fd(), REMOVE, &mut self::message(0, &[]));
    }
    // devtmpfs has made the node before the ioctl that created the device returned.
    loaded.map(|()| root.path(&format!("/dev/dm-{minor}")))
}

/// A `struct dm_ioctl` for the device, with a payload behind it.
fn message(flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DM_HEADER_BYTES + payload.len());
    for version in [4_u32, 0, 0] {
        bytes.extend_from_slice(&version.to_ne_bytes());
    }
    // data_size is set where the ioctl is made.
    let targets = u32::from(!payload.is_empty());
    for word in [0, DM_HEADER_BYTES as u32, targets, 0, flags, 0, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&0_u64.to_ne_bytes());
    bytes.extend_from_slice(NAME.as_bytes());
    bytes.resize(DM_HEADER_BYTES, 0);
    bytes.extend_from_slice(payload);
    bytes
}

/// A `struct dm_target_spec` and its parameters.
fn target(sectors: u64, parameters: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0_u64.to_ne_bytes());
    bytes.extend_from_slice(&sectors.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(b"verity");
    bytes.resize(SPEC_BYTES, 0);
    bytes.extend_from_slice(parameters.as_bytes());
    // Ended by zero, and padded to eight bytes.
    bytes.resize((bytes.len() + 1).next_multiple_of(8), 0);
    bytes
}

/// The minor number in the answer's `dev`, in the kernel's encoding.
fn minor(message: &[u8]) -> u64 {
    let dev = message.iter().skip(40).take(8).rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    dev & 0xff | dev >> 12 & 0xf_ff00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_kernels_layout() {
        let table = target(2400, "1 254:2 254:3");
        let bytes = message(READ_ONLY, &table);
        assert_eq!(bytes.len(), DM_HEADER_BYTES + SPEC_BYTES + 16);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        assert_eq!((word(0), word(16), word(20), word(28)), (4, 312, 1, READ_ONLY), "version, data_start, target_count, flags");
        assert_eq!(&bytes[48..60], b"corten-root\0");
        assert_eq!(&bytes[DM_HEADER_BYTES + 24..DM_HEADER_BYTES + 31], b"verity\0");
        assert_eq!(&bytes[DM_HEADER_BYTES + 8..DM_HEADER_BYTES + 16], 2400_u64.to_ne_bytes());
        assert!(bytes.ends_with(b"254:3\0\0\0"));
    }

    #[test]
    fn minor_is_decoded() {
        let mut bytes = message(0, &[]);
        bytes[40..48].copy_from_slice(&0x0010_fd03_u64.to_ne_bytes());
        assert_eq!(minor(&bytes), 0x103);
    }
}
