//! The three places that hold a slot's image: two partitions and a file on the ESP. Read and written by offset; nothing of them stays in
//! memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::disk::Slot;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_EXCL;
use update::{Digest, Manifest, PartName};

use super::blocks;
use super::esp::{self, Opened};
use super::swap::Swap;

/// One slot's image, open.
#[derive(Debug)]
pub struct Parts {
    root: Place,
    verity: Place,
    uki: Place,
    /// The UKI lies there.
    _esp: Opened,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: File,
}

impl Parts {
    /// The image that a slot boots, to read.
    pub fn of(swap: &Swap, slot: Slot) -> anyhow::Result<Parts> {
        let esp = swap.esp.open()?;
        let mut read = OpenOptions::new();
        read.read(true);
        Parts::open(swap, slot, &read, &read, esp::image(&esp, slot), esp)
    }

    /// What a slot that is being written holds, to read. A UKI that nobody began with is an empty one.
    pub fn written(swap: &Swap, slot: Slot) -> anyhow::Result<Parts> {
        let esp = swap.esp.open()?;
        let mut read = OpenOptions::new();
        read.read(true);
        let candidates = [esp::new_image(&esp, slot), esp::image(&esp, slot)];
        let uki = candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("/dev/null"));
        Parts::open(swap, slot, &read, &read, uki, esp)
    }

    /// The same, to write.
    pub fn to_write(swap: &Swap, slot: Slot) -> anyhow::Result<Parts> {
        let esp = swap.esp.open()?;
        for device in [swap.disk.root_device(slot)?, swap.disk.verity_device(slot)?] {
            refuse_in_use(&device)?;
        }
        let (mut device, mut file) = (OpenOptions::new(), OpenOptions::new());
        device.read(true).write(true);
        file.read(true).write(true).create(true).truncate(false);
        Parts::open(swap, slot, &device, &file, esp::new_image(&esp, slot), esp)
    }

    fn open(swap: &Swap, slot: Slot, device: &OpenOptions, file: &OpenOptions, uki: PathBuf, esp: Opened) -> anyhow::Result<Parts> {
        Ok(Parts {
            root: Place::open(swap.disk.root_device(slot)?, device)?,
            verity: Place::open(swap.disk.verity_device(slot)?, device)?,
            uki: Place::open(uki, file)?,
            _esp: esp,
        })
    }

    pub fn path(&self, part: PartName) -> &Path {
        &self.place(part).path
    }

    /// Bytes that there are at the offset, at most as many as asked for.
    pub fn read(&self, part: PartName, offset: u64, size: u32) -> anyhow::Result<Vec<u8>> {
        let place = self.place(part);
        let mut bytes = vec![0; size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match place.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", place.path.display())),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Writes the blocks that differ from what is there, and says how many bytes that were.
    pub fn write(&self, part: PartName, offset: u64, bytes: &[u8]) -> anyhow::Result<u64> {
        let place = self.place(part);
        // A chunk, which is short.
        let there = self.read(part, offset, bytes.len() as u32)?;
        let mut written = 0;
        for range in blocks::changed(offset, &there, bytes) {
            let (start, bytes) = (offset + range.start as u64, &bytes[range]);
            place.file.write_all_at(bytes, start).with_context(|| format!("writing {}", place.path.display()))?;
            written += bytes.len() as u64;
        }
        Ok(written)
    }

    /// Everything from the start of a part.
    pub fn reader(&self, part: PartName) -> anyhow::Result<impl Read> {
        let place = self.place(part);
        let mut file = &place.file;
        file.seek(SeekFrom::Start(0)).with_context(|| format!("reading {}", place.path.display()))?;
        Ok(file)
    }

    /// Has everything that was written on the disk, and nothing of it in the kernel's cache: what is read next comes from the disk.
    pub fn sync(&self) -> anyhow::Result<()> {
        for place in [&self.root, &self.verity, &self.uki] {
            let synced = place.file.sync_all().with_context(|| format!("syncing {}", place.path.display()));
            synced?;
            let dropped = posix_fadvise(&place.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            dropped.with_context(|| format!("dropping the cache of {}", place.path.display()))?;
        }
        Ok(())
    }

    /// Cuts off what a longer UKI left behind the new one.
    pub fn fit_uki(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let Some(part) = manifest.part(PartName::Uki) else { return Ok(()) };
        let length = self.uki.file.metadata().with_context(|| format!("reading {}", self.uki.path.display()))?.len();
        if length > part.size_bytes {
            self.uki.file.set_len(part.size_bytes).with_context(|| format!("shortening {}", self.uki.path.display()))?;
        }
        Ok(())
    }

    /// SHA-256 of the first bytes of a part.
    pub fn digest(&self, part: PartName, size: u64, progress: &dyn Fn(u64)) -> anyhow::Result<Digest> {
        Digest::of_reader(self.counted(part, size, progress)?).with_context(|| format!("reading {}", self.path(part).display()))
    }

    /// The first bytes of a part, with word of how many went through.
    pub fn counted<'a>(&'a self, part: PartName, size: u64, progress: &'a dyn Fn(u64)) -> anyhow::Result<impl Read + 'a> {
        Ok(Counted { reader: self.reader(part)?.take(size), progress })
    }

    fn place(&self, part: PartName) -> &Place {
        match part {
            PartName::Root => &self.root,
            PartName::Verity => &self.verity,
            PartName::Uki => &self.uki,
        }
    }
}

impl Place {
    fn open(path: PathBuf, options: &OpenOptions) -> anyhow::Result<Place> {
        let file = options.open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Place { path, file })
    }
}

/// What the running system stands on cannot be opened like this (open(2): O_EXCL on block devices).
fn refuse_in_use(device: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).custom_flags(O_EXCL).open(device);
    opened.map(drop).with_context(|| format!("opening {} for ourselves", device.display()))
}

/// Tells how many bytes went through.
struct Counted<'a, R> {
    reader: R,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        (self.progress)(count as u64);
        Ok(count)
    }
}
