//! Copies a file of the medium to its place on the disk, and reads it back: a disk that does not keep what was written is found before
//! anybody boots from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_EXCL;

const BLOCK_BYTES: usize = 1 << 20;

/// Where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A file that need not be there.
    File,
    /// A partition that nobody else uses.
    Device,
}

/// Copies and compares. `progress` hears the bytes that each block brings, of the copy and of the comparison: twice the file's size.
pub fn copy(from: &Path, to: &Path, target: Target, progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    fill(from, to, target, progress).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    compare(from, to, progress).with_context(|| format!("reading {} back", to.display()))
}

fn fill(from: &Path, to: &Path, target: Target, progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    let mut source = File::open(from)?;
    let mut options = OpenOptions::new();
    options.write(true);
    match target {
        Target::File => options.create(true).truncate(true),
        // Fails where the device is mounted or part of something (open(2): O_EXCL on block devices).
        Target::Device => options.custom_flags(O_EXCL),
    };
    let mut place = options.open(to)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let length = read_block(&mut source, &mut block)?;
        if length == 0 {
            break;
        }
        place.write_all(&block[..length])?;
        progress(length as u64);
    }
    place.sync_all()?;
    // What is read next comes from the disk, and from the medium, not from memory.
    for file in [&place, &source] {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

fn compare(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    let (mut source, mut copied) = (File::open(from)?, File::open(to)?);
    let (mut wanted, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut at = 0;
    loop {
        let length = read_block(&mut source, &mut wanted)?;
        if length == 0 {
            return Ok(());
        }
        // A partition is longer than what was copied to it.
        let there = read_block(&mut copied, &mut found[..length])?;
        let same = wanted[..length].iter().zip(&found[..there]).take_while(|(a, b)| a == b).count();
        ensure!(same == length, "it differs from {} at byte {}", from.display(), at + same);
        at += length;
        progress(length as u64);
    }
}

/// A full block, but at the end.
fn read_block(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_copied_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            fs::write(&from, &content).unwrap();
            fs::write(&to, vec![9; 4 * BLOCK_BYTES]).unwrap();
            let mut bytes = 0;
            copy(&from, &to, Target::Device, &mut |count| bytes += count).unwrap();
            let found = fs::read(&to).unwrap();
            assert!(found.len() == 4 * BLOCK_BYTES && found[..length] == content && found[length..].iter().all(|byte| *byte == 9));
            assert_eq!(bytes, 2 * length as u64);
            copy(&from, &to, Target::File, &mut |_| {}).unwrap();
            assert_eq!(fs::read(&to).unwrap(), content);
        }
    }

    #[test]
    fn a_difference_is_found_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, vec![1; BLOCK_BYTES + 10]).unwrap();
        let mut content = vec![1; BLOCK_BYTES + 20];
        compare_fails(&from, &to, &content[..BLOCK_BYTES + 9], BLOCK_BYTES + 9);
        content[BLOCK_BYTES + 3] = 2;
        compare_fails(&from, &to, &content, BLOCK_BYTES + 3);
        let error = copy(&from, &directory.path().join("none/there"), Target::File, &mut |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("none/there: No such file"), "{error:#}");
    }

    fn compare_fails(from: &Path, to: &Path, content: &[u8], at: usize) {
        fs::write(to, content).unwrap();
        let error = compare(from, to, &mut |_| {}).unwrap_err();
        assert!(error.to_string().ends_with(&format!("at byte {at}")), "{error}");
    }
}
