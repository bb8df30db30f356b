//! Where the ESP's files are reached: its partition is mounted while somebody works on it, and only then, so that a power cut at any other
//! time finds a file system that was left in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use machine::Root;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The partition, or a directory in its place.
#[derive(Debug, Clone)]
pub struct Place(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Directory(PathBuf),
    Partition { root: Root, device: PathBuf, mount_point: PathBuf, state: Mutex<State> },
}

#[derive(Debug, Default)]
struct State {
    users: usize,
    /// Whether this agent had the file system checked: a cut may have come before it started.
    checked: bool,
}

/// The files, for as long as this is kept.
#[derive(Debug)]
pub struct Opened {
    place: Place,
    directory: PathBuf,
}

impl Place {
    pub fn directory(directory: PathBuf) -> Place {
        Place(Arc::new(Kind::Directory(directory)))
    }

    pub fn partition(root: Root, device: PathBuf) -> Place {
        let mount_point = root.run().join("esp");
        Place(Arc::new(Kind::Partition { root, device, mount_point, state: Mutex::default() }))
    }

    pub fn open(&self) -> anyhow::Result<Opened> {
        let directory = match &*self.0 {
            Kind::Directory(directory) => directory.clone(),
            Kind::Partition { root, device, mount_point, state } => {
                let mut state = lock(state);
                if state.users == 0 {
                    attach(root, device, mount_point, &mut state)?;
                }
                state.users += 1;
                mount_point.clone()
            }
        };
        Ok(Opened { place: self.clone(), directory })
    }
}

impl Opened {
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Kind::Partition { mount_point, state, .. } = &*self.place.0 else { return };
        let mut state = lock(state);
        state.users -= 1;
        if state.users == 0
            && let Err(error) = umount2(mount_point, MntFlags::empty())
        {
            tracing::warn!("unmounting {}: {error}", mount_point.display());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attach(root: &Root, device: &Path, mount_point: &Path, state: &mut State) -> anyhow::Result<()> {
    fs::create_dir_all(mount_point).with_context(|| format!("making {}", mount_point.display()))?;
    if !state.checked {
        // An agent that was killed may have left it mounted; one mounted elsewhere is not ours to check.
        while umount2(mount_point, MntFlags::empty()).is_ok() {}
        check(root, device)?;
        state.checked = true;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The kernel fetches vfat and the tables for its names by modprobe.
    let mounted = mount(Some(device), mount_point, Some("vfat"), flags, Some("fmask=0177,dmask=0077,errors=remount-ro"));
    mounted.with_context(|| format!("mounting {} at {}", device.display(), mount_point.display()))
}

/// Repairs what a cut left: the firmware and the kernel both write without a journal.
fn check(root: &Root, device: &Path) -> anyhow::Result<()> {
    let output = Command::new(root.path("/usr/sbin/fsck.fat")).arg("-a").arg(device).output();
    let output = output.with_context(|| format!("running fsck.fat for {}", device.display()))?;
    // fsck.fat(8): 1 is what was repaired.
    let repaired = output.status.code() == Some(1);
    let said = String::from_utf8_lossy(&output.stdout);
    if repaired {
        tracing::warn!("{} was repaired: {}", device.display(), said.trim());
    }
    ensure!(output.status.success() || repaired, "checking {}: {} {}", device.display(), output.status, said.trim());
    Ok(())
}
