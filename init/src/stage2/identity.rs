//! What makes this machine itself: machine-id and random seed, both on STATE.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use machine::Root;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::cmdline::hex;
use crate::files;
use crate::sys::{self, SEED_BYTES};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("get random numbers")]
    Random(#[source] io::Error),
    #[error("{path} holds {found:?}; expected 32 hexadecimal digits, another id is used for this boot")]
    MachineId { path: String, found: String },
    #[error("credit the random seed")]
    Credit(#[source] io::Error),
}

/// Makes the machine-id once, and writes it to /etc. Without STATE (`keep` false) the id lasts for this boot.
pub fn machine_id(root: &Root, keep: bool) -> Result<(), Error> {
    let path = root.machine_id();
    let mut complaint = Ok(());
    let known = fs::read_to_string(&path).ok().filter(|_| keep);
    let id = match known.as_deref().map(str::trim) {
        Some(id) if is_machine_id(id) => id.to_owned(),
        Some(other) => {
            complaint = Err(Error::MachineId { path: path.display().to_string(), found: other.chars().take(64).collect() });
            new_machine_id()?
        }
        None => {
            let id = new_machine_id()?;
            if keep {
                files::replace(&path, format!("{id}\n").as_bytes(), 0o444)?;
            }
            id
        }
    };
    files::replace(&root.etc_machine_id(), format!("{id}\n").as_bytes(), 0o444)?;
    complaint
}

/// machine-id(5): 32 lower-case digits, not all zero.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && text.bytes().any(|byte| byte != b'0')
}

fn new_machine_id() -> Result<String, Error> {
    // As a UUID of version 4 without dashes, which is what machine-id(5) recommends.
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(hex(&bytes))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| Error::Random(error.into()))?;
    Ok(bytes)
}

/// Feeds the last boot's seed to the kernel. It is replaced first: a seed that was credited twice would let two boots draw the same
/// numbers.
pub fn random_seed(root: &Root) -> Result<(), Error> {
    let old = fs::read(root.random_seed()).ok().and_then(|seed| <[u8; SEED_BYTES]>::try_from(seed).ok());
    let device = root.path("/dev/urandom");
    if let Some(old) = &old {
        // Mixed in without credit, so that the new seed depends on it.
        write(&device, old)?;
    }
    save_seed(root)?;
    if let Some(old) = old {
        let device = File::open(&device).map_err(files::at("open", &device))?;
        sys::credit_entropy(device.as_fd(), &old).map_err(Error::Credit)?;
    }
    Ok(())
}

/// Leaves a seed for the next boot.
pub fn save_seed(root: &Root) -> Result<(), Error> {
    let seed: [u8; SEED_BYTES] = random()?;
    Ok(files::replace(&root.random_seed(), &seed, 0o600)?)
}

fn write(device: &Path, bytes: &[u8]) -> Result<(), files::Error> {
    let file = OpenOptions::new().write(true).open(device);
    file.and_then(|mut file| file.write_all(bytes)).map_err(files::at("write", device))
}

/// The time of day that the last boot saved, in seconds since the epoch.
pub fn saved_clock(root: &Root) -> Option<u64> {
    fs::read_to_string(root.clock()).ok()?.trim().parse().ok()
}

/// Saves the time of day for the next boot.
pub fn save_clock(root: &Root, seconds: u64) -> Result<(), files::Error> {
    files::replace(&root.clock(), format!("{seconds}\n").as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_id_is_made_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        machine_id(&root, true).expect("made");
        let read = |path: &Path| fs::read_to_string(path).expect("there");
        let first = read(&root.machine_id());
        assert!(is_machine_id(first.trim()), "{first}");
        machine_id(&root, true).expect("kept");
        assert_eq!((read(&root.machine_id()), read(&root.etc_machine_id())), (first.clone(), first));
    }

    #[test]
    fn without_state_the_machine_id_lasts_for_the_boot() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        machine_id(&root, false).expect("made");
        assert!(root.etc_machine_id().exists() && !root.machine_id().exists());
    }

    #[test]
    fn machine_id_that_is_none_is_left_as_it_is() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        files::replace(&root.machine_id(), b"uninitialized\n", 0o444).expect("write");
        assert!(matches!(machine_id(&root, true), Err(Error::MachineId { .. })));
        assert_eq!(fs::read(root.machine_id()).expect("there"), b"uninitialized\n");
        assert!(is_machine_id(fs::read_to_string(root.etc_machine_id()).expect("there").trim()));
    }

    #[test]
    fn seed_is_another_one_each_time() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        save_seed(&root).expect("saved");
        let first = fs::read(root.random_seed()).expect("there");
        save_seed(&root).expect("saved");
        let second = fs::read(root.random_seed()).expect("there");
        assert_eq!((first.len(), second.len(), first == second), (SEED_BYTES, SEED_BYTES, false));
    }

    #[test]
    fn clock_is_saved_and_read() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        assert_eq!(saved_clock(&root), None);
        save_clock(&root, 1_700_000_000).expect("saved");
        assert_eq!(saved_clock(&root), Some(1_700_000_000));
        fs::write(root.clock(), "").expect("write");
        assert_eq!(saved_clock(&root), None);
    }
}
