//! The output folder appears as a whole or not at all: it is filled under another name, synced, and exchanged with what was there before.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

/// A folder in the making. Dropped before [`Output::publish`], it is gone.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    partial: PathBuf,
    /// Held while the folder is in the making, so that two builds of one image do not mix.
    _exclusive: File,
    lock: PathBuf,
}

impl Output {
    pub fn begin(path: &Path) -> Result<Output> {
        let name = path.file_name().with_context(|| format!("output {}: expected the name of a folder", path.display()))?.to_string_lossy();
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let lock = parent.join(format!(".{name}.lock"));
        let exclusive = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
        match rustix::fs::flock(&exclusive, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => bail!("{} is being built by another process", path.display()),
            result => result.with_context(|| format!("locking {}", lock.display()))?,
        }
        let partial = parent.join(format!(".{name}.partial"));
        // Left behind by a build that was killed.
        remove(&partial)?;
        fs::create_dir(&partial).with_context(|| format!("making {}", partial.display()))?;
        Ok(Output { path: path.to_owned(), partial, _exclusive: exclusive, lock })
    }

    /// The folder to write into.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Makes the folder durable and gives it its name.
    pub fn publish(self) -> Result<()> {
        let publishing = || format!("publishing {}", self.path.display());
        for entry in fs::read_dir(&self.partial).with_context(publishing)? {
            let path = entry.with_context(publishing)?.path();
            File::open(&path).and_then(|file| file.sync_all()).with_context(|| format!("syncing {}", path.display()))?;
        }
        File::open(&self.partial).and_then(|directory| directory.sync_all()).with_context(publishing)?;
        let exists = self.path.symlink_metadata().is_ok();
        let flags = if exists { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let here = rustix::fs::CWD;
        rustix::fs::renameat_with(here, &self.partial, here, &self.path, flags).with_context(publishing)?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).with_context(publishing)
    }
}

impl Drop for Output {
    /// After an exchange this is what was there before.
    fn drop(&mut self) {
        if let Err(error) = remove(&self.partial).and_then(|()| Ok(fs::remove_file(&self.lock)?)) {
            eprintln!("image-build: cleaning up: {error:#}");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(metadata) if !metadata.is_dir() => fs::remove_file(path).with_context(|| format!("removing {}", path.display())),
        _ => fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_folder_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        for content in ["old", "new"] {
            let output = Output::begin(&path).unwrap();
            fs::write(output.folder().join(content), content).unwrap();
            output.publish().unwrap();
        }
        let names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["new"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn an_abandoned_build_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::create_dir(&path).unwrap();
        let output = Output::begin(&path).unwrap();
        fs::write(output.folder().join("half"), "x").unwrap();
        assert!(Output::begin(&path).unwrap_err().to_string().contains("another process"));
        drop(output);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
