//! The output folder: `.cache/<component>/<key>/` holds finished builds, `<component>` is a link to the current one.
//! A build appears there as a whole or not at all; a failed or interrupted one leaves the link as it was.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::record::{RECORD, Record};

/// Finished builds kept per component: the current one and the one before.
const KEPT: usize = 2;
const STAGING: &str = ".building-";

/// The output folder, locked for this process until dropped.
#[derive(Debug)]
pub struct Store {
    out: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the folder, making it when needed; waits for another process that is building into it.
    pub fn open(out: &Path) -> Result<Self> {
        let cache = out.join(".cache");
        std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
        let path = cache.join("lock");
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another build into {}", out.display());
            lock.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        // Absolute: compilers are started in other folders.
        let out = out.canonicalize().with_context(|| format!("opening {}", out.display()))?;
        Ok(Self { out, _lock: lock })
    }

    /// The finished build with this key, if all its files are there.
    pub fn find(&self, component: &str, key: &str) -> Option<Record> {
        let folder = self.builds(component).join(key);
        let record = Record::read(&folder.join(RECORD)).ok()?;
        let whole = |file: &super::record::BuiltFile| {
            std::fs::metadata(folder.join("bin").join(&file.name)).is_ok_and(|found| found.len() == file.bytes)
        };
        record.files.iter().all(whole).then_some(record)
    }

    /// An empty folder to build into; it vanishes unless it is kept. Left-overs of interrupted builds go first.
    pub fn stage(&self, component: &str) -> Result<TempDir> {
        let builds = self.builds(component);
        std::fs::create_dir_all(&builds).with_context(|| format!("making {}", builds.display()))?;
        for path in entries(&builds)? {
            if name_of(&path).starts_with(STAGING) {
                std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        tempfile::Builder::new().prefix(STAGING).tempdir_in(&builds).with_context(|| format!("making a folder in {}", builds.display()))
    }

    /// Makes the staged folder the finished build of `key`.
    pub fn keep(&self, component: &str, key: &str, staged: TempDir) -> Result<()> {
        let target = self.builds(component).join(key);
        if target.exists() {
            // Found incomplete by `find`.
            std::fs::remove_dir_all(&target).with_context(|| format!("removing {}", target.display()))?;
        }
        std::fs::rename(staged.path(), &target).with_context(|| format!("moving the build to {}", target.display()))?;
        let _moved = staged.keep();
        Ok(())
    }

    /// Lets `<component>` point to the build of `key` and removes builds older than the one before it.
    pub fn point(&self, component: &str, key: &str) -> Result<()> {
        let link = self.out.join(component);
        let target = Path::new(".cache").join(component).join(key);
        if std::fs::read_link(&link).is_ok_and(|current| current == target) {
            return Ok(());
        }
        let fresh = self.out.join(format!(".{component}.new"));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", fresh.display()));
            }
            _ => {}
        }
        symlink(&target, &fresh).with_context(|| format!("linking {}", fresh.display()))?;
        std::fs::rename(&fresh, &link).with_context(|| format!("pointing {} to {}", link.display(), target.display()))?;
        self.prune(component, key)
    }

    fn prune(&self, component: &str, current: &str) -> Result<()> {
        let mut others = Vec::new();
        for path in entries(&self.builds(component))? {
            if name_of(&path) != current {
                let age =
                    std::fs::metadata(&path).and_then(|found| found.modified()).with_context(|| format!("reading {}", path.display()))?;
                others.push((age, path));
            }
        }
        others.sort();
        let surplus = (others.len() + 1).saturating_sub(KEPT);
        for (_, path) in others.into_iter().take(surplus) {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    fn builds(&self, component: &str) -> PathBuf {
        self.out.join(".cache").join(component)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", folder.display());
    std::fs::read_dir(folder).with_context(reading)?.map(|entry| Ok(entry.with_context(reading)?.path())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
