//! The partition table of the disk that was booted. Once unique, it changes three times at most: at first boot, when the disk has grown,
//! and when a file system is made or wiped. Every change is written so that a power cut at any instant leaves a readable table.

pub mod plan;
pub mod table;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use machine::disk::Partition;
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
            let mut guid = [0; 16];
            if let Err(error) = getrandom(&mut guid, GetRandomFlags::empty()) {
                random = Err(Error::Random(error.into()));
            }
            guid
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

    fn write(&mut self, table: &Table) -> Result<(), Error> {
        for step in table.writes() {
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
