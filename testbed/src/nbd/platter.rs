//! What a power cut cannot take: the base image, and over it a sparse file with the blocks that were written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom};

use crate::Error;

/// Unit of copying from the base image.
const BLOCK_BYTES: u64 = 4096;
/// Copied at a time.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Platter {
    base: Option<File>,
    base_bytes: u64,
    written: File,
    /// One bit a block: whether it is in `written`.
    present: Vec<u64>,
}

impl Platter {
    pub fn open(base: Option<&Path>, size_bytes: u64, directory: &Path) -> Result<Platter, Error> {
        let path = directory.join("written");
        let written = File::options().read(true).write(true).create_new(true).open(&path).map_err(Error::file("create", &path))?;
        written.set_len(size_bytes).map_err(Error::file("size", &path))?;
        let (base, base_bytes) = match base {
            None => (None, 0),
            Some(path) => {
                let file = File::open(path).map_err(Error::file("open the image", path))?;
                (Some(file), fs::metadata(path).map_err(Error::file("size the image", path))?.len())
            }
        };
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        Ok(Platter { base, base_bytes, written, present: vec![0; blocks.div_ceil(64) as usize] })
    }

    /// The same content, which takes as much room again as was written.
    pub fn copy(&self, directory: &Path) -> Result<Platter, Error> {
        let path = directory.join("written");
        let written = File::options().read(true).write(true).create_new(true).open(&path).map_err(Error::file("create", &path))?;
        self.copy_written(&written).map_err(Error::file("copy a disk to", &path))?;
        let base = self.base.as_ref().map(File::try_clone).transpose().map_err(Error::file("open the image of", &path))?;
        Ok(Platter { base, base_bytes: self.base_bytes, written, present: self.present.clone() })
    }

    /// Only where there is anything: a trim of a whole disk leaves it without.
    fn copy_written(&self, to: &File) -> io::Result<()> {
        to.set_len(self.written.metadata()?.len())?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        loop {
            let start = match rustix::fs::seek(&self.written, SeekFrom::Data(at)) {
                Err(rustix::io::Errno::NXIO) => return Ok(()),
                start => start?,
            };
            at = rustix::fs::seek(&self.written, SeekFrom::Hole(start))?;
            for from in (start..at).step_by(PIECE_BYTES) {
                let part = &mut piece[..(at - from).min(PIECE_BYTES as u64) as usize];
                self.written.read_exact_at(part, from)?;
                to.write_all_at(part, from)?;
            }
        }
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let (mut at, mut rest) = (offset, buffer);
        while at < end {
            let present = self.is_present(at / BLOCK_BYTES);
            let until = self.end_of_run(at, end, present);
            let (part, further) = rest.split_at_mut((until - at) as usize);
            if present {
                self.written.read_exact_at(part, at)?;
            } else {
                self.read_base(at, part)?;
            }
            (at, rest) = (until, further);
        }
        Ok(())
    }

    /// Up to where all blocks from `at` on are in `written`, or none is: they are read at once.
    fn end_of_run(&self, at: u64, end: u64, present: bool) -> u64 {
        let other = (at / BLOCK_BYTES + 1..end.div_ceil(BLOCK_BYTES)).find(|block| self.is_present(*block) != present);
        other.map_or(end, |block| block * BLOCK_BYTES)
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        for edge in [offset, end.saturating_sub(1)] {
            self.copy_up(edge / BLOCK_BYTES, offset, end)?;
        }
        self.mark(offset, end);
        self.written.write_all_at(data, offset)
    }

    /// Zeros, without taking room.
    pub fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let end = offset + length;
        for edge in [offset, end - 1] {
            self.copy_up(edge / BLOCK_BYTES, offset, end)?;
        }
        self.mark(offset, end);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.written, punch, offset, length)?)
    }

    /// Brings a block that is written only in part (`from..to` is not all of it) over from the base.
    fn copy_up(&mut self, block: u64, from: u64, to: u64) -> io::Result<()> {
        let (start, end) = (block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
        if self.is_present(block) || (from <= start && end <= to) {
            return Ok(());
        }
        let mut content = [0; BLOCK_BYTES as usize];
        self.read_base(start, &mut content)?;
        self.present[(block / 64) as usize] |= 1 << (block % 64);
        let room = self.written.metadata()?.len().saturating_sub(start).min(BLOCK_BYTES);
        self.written.write_all_at(&content[..room as usize], start)
    }

    fn mark(&mut self, from: u64, to: u64) {
        for block in from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES) {
            self.present[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    fn is_present(&self, block: u64) -> bool {
        self.present[(block / 64) as usize] & (1 << (block % 64)) != 0
    }

    fn read_base(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = self.base_bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (image, beyond) = buffer.split_at_mut(there);
        beyond.fill(0);
        match &self.base {
            Some(base) if !image.is_empty() => base.read_exact_at(image, offset),
            _ => Ok(()),
        }
    }
}
