//! Snapshots in a directory of the machine.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::Context;

#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

/// One that is being written; nothing is left of it unless it is kept.
#[derive(Debug)]
pub struct Writing {
    directory: Directory,
    path: PathBuf,
    file: File,
}

impl Directory {
    pub fn new(path: PathBuf) -> Directory {
        Directory(path)
    }

    pub fn list(&self) -> anyhow::Result<Vec<String>> {
        match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.0.display())),
            Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
        }
    }

    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        crate::files::remove(&self.0.join(name))
    }

    pub fn write(&self) -> anyhow::Result<Writing> {
        let doing = || format!("writing to {}", self.0.display());
        fs::create_dir_all(&self.0).with_context(doing)?;
        fs::set_permissions(&self.0, Permissions::from_mode(0o700)).with_context(doing)?;
        let path = self.0.join(".new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).with_context(doing)?;
        Ok(Writing { directory: self.clone(), path, file })
    }
}

impl Writing {
    pub fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.path.display()))
    }

    /// Once its bytes are on the disk they are read back, piece by piece.
    pub fn read_back(&mut self, mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let doing = || format!("reading {} back", self.path.display());
        self.file.sync_all().with_context(doing)?;
        let mut file = File::open(&self.path).with_context(doing)?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            match file.read(&mut piece).with_context(doing)? {
                0 => return Ok(()),
                length => each(&piece[..length])?,
            }
        }
    }

    pub fn keep(self, name: &str) -> anyhow::Result<()> {
        let path = self.directory.0.join(name);
        fs::rename(&self.path, &path).with_context(|| format!("keeping {}", path.display()))?;
        Ok(File::open(&self.directory.0)?.sync_all()?)
    }
}

impl Drop for Writing {
    /// One that was kept has another name.
    fn drop(&mut self) {
        let _ = crate::files::remove(&self.path);
    }
}
