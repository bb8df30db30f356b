//! The partition table of the disk that was booted, or is to be booted from. Once unique, it changes three times at most: at first boot,
//! when the disk has grown, and when a file system is made or wiped. Every change is written so that a power cut at any instant leaves a
//! readable table.

pub mod content;
pub mod fresh;
pub mod guid;
pub mod plan;
pub mod table;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use machine::disk::{Extent, INSTALLING_MARK, INSTALLING_MARK_AT, Partition};
use nix::libc::O_EXCL;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::gpt::table::{DiskWrite, Table};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open {0}")]
    Open(String, #[source] io::Error),
    #[error("read the partition table")]
    Read(#[source] io::Error),
    #[error("write the partition table")]
    Write(#[source] io::Error),
    #[error("no readable partition table: primary {primary}, backup {backup}")]
    Damaged { primary: String, backup: String },
    #[error("partition {0} is not in the table")]
    Missing(&'static str),
    #[error("partition GUIDs need random numbers")]
    Random(#[source] io::Error),
    #[error("partition type {0} is no GUID")]
    Type(&'static str),
}

/// A disk whose table is looked after.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sector_size: u64,
}

impl Disk {
    pub fn open(path: &Path, sector_size: u64) -> Result<Disk, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Disk { file: file.map_err(|source| Error::Open(path.display().to_string(), source))?, sector_size })
    }

    /// Opens a disk that nobody else uses: no file system, swap, RAID or device mapper on it or on any of its partitions (open(2), O_EXCL
    /// on block devices).
    pub fn claim(path: &Path, sector_size: u64) -> Result<Disk, Error> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(O_EXCL).open(path);
        Ok(Disk { file: file.map_err(|source| Error::Open(path.display().to_string(), source))?, sector_size })
    }

    pub fn content(&mut self) -> Result<content::Content, Error> {
        content::look(&mut self.file, self.sector_size).map_err(Error::Read)
    }

    /// Makes the disk hold nothing but a table with these partitions. Durable when it returns.
    pub fn lay_out(&mut self, extents: &[Extent]) -> Result<(), Error> {
        let sectors = self.file.seek(SeekFrom::End(0)).map_err(Error::Read)? / self.sector_size;
        let table = fresh::table(extents, sectors, self.sector_size, random_bytes)?;
        self.carry_out(fresh::writes(&table, extents, sectors))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// The table in force: the primary copy, or the backup where the primary is damaged.
    pub fn read(&mut self) -> Result<table::Seen, Error> {
        table::read(&mut self.file, self.sector_size)
    }

    /// Makes the table what [`plan::fix`] says. Answers the table now in force.
    pub fn fix(&mut self) -> Result<Table, Error> {
        let seen = self.read()?;
        let mut random = Ok(());
        let wanted = plan::fix(&seen, || {
            random_bytes().unwrap_or_else(|error| {
                random = Err(error);
                [0; 16]
            })
        });
        random?;
        match wanted {
            None => Ok(seen.table),
            Some(table) => {
                self.write(&table)?;
                Ok(table)
            }
        }
    }

    /// Sets or clears the mark that says a file system was made on a partition. Durable when it returns.
    pub fn mark(&mut self, partition: Partition, made: bool) -> Result<(), Error> {
        let seen = self.read()?;
        match plan::mark(&seen.table, partition, made)? {
            Some(table) => self.write(&table),
            None => Ok(()),
        }
    }

    /// Takes away what says that the installation is not complete: the disk was booted. Durable when it returns.
    pub fn complete(&mut self) -> Result<(), Error> {
        let mut found = [0; INSTALLING_MARK.len()];
        self.file.seek(SeekFrom::Start(INSTALLING_MARK_AT)).and_then(|_| self.file.read_exact(&mut found)).map_err(Error::Read)?;
        if &found != INSTALLING_MARK {
            return Ok(());
        }
        let bytes = vec![0; self.sector_size as usize];
        self.carry_out(vec![DiskWrite::Bytes { at: INSTALLING_MARK_AT, bytes }, DiskWrite::Sync])
    }

    fn write(&mut self, table: &Table) -> Result<(), Error> {
        self.carry_out(table.writes())
    }

    fn carry_out(&mut self, writes: Vec<DiskWrite>) -> Result<(), Error> {
        for step in writes {
            match step {
                DiskWrite::Bytes { at, bytes } => {
                    self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(&bytes)).map_err(Error::Write)?;
                }
                DiskWrite::Sync => self.file.sync_data().map_err(Error::Write)?,
            }
        }
        Ok(())
    }
}

fn random_bytes() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| Error::Random(error.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::disk::{layout, least_bytes};

    #[test]
    fn installation_is_complete_once_somebody_says_so() {
        let partitions = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];
        for sector in [512, 4096] {
            let size = least_bytes(&partitions);
            let file = tempfile::NamedTempFile::new().expect("disk");
            file.as_file().set_len(size).expect("size");
            let mut disk = Disk::open(file.path(), sector).expect("open");
            disk.lay_out(&layout(&partitions, size, sector).expect("large enough")).expect("lay out");
            disk.mark(Partition::State, true).expect("mark");
            assert_eq!(disk.content().expect("readable"), content::Content::CutShort);
            for _ in 0..2 {
                disk.complete().expect("complete");
                assert!(matches!(disk.content().expect("readable"), content::Content::Other(_)), "{sector}");
            }
        }
    }
}
