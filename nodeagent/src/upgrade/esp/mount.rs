//! Where the ESP's files are reached: its partition is mounted while somebody works on it, and only then, so that a power cut at any other
//! time finds a file system that was left in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use machine::Root;
use nix::errno::Errno;
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
            && let Err(error) = detach(mount_point)
        {
            tracing::warn!("unmounting {}: {error}", mount_point.display());
        }
    }
}

/// What a program inherits that was just started is open in it for a moment, until it becomes that program: the file system is then left in order
/// right after that, instead of staying mounted for as long as the agent lives.
fn detach(mount_point: &Path) -> nix::Result<()> {
    umount2(mount_point, MntFlags::empty()).or_else(|error| match error {
        Errno::EBUSY => umount2(mount_point, MntFlags::MNT_DETACH),
        other => Err(other),
    })
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
    let first = fsck(root, device)?;
    if first.status.success() {
        return Ok(());
    }
    // fsck.fat(8) ends with 1 where it repaired something and where it gave up: what was repaired passes the second time.
    let second = fsck(root, device)?;
    let said = String::from_utf8_lossy(&first.stdout).into_owned() + &String::from_utf8_lossy(&first.stderr);
    ensure!(second.status.success(), "checking {}: {}: {}", device.display(), second.status, said.trim());
    tracing::warn!("{} was repaired: {}", device.display(), said.trim());
    Ok(())
}

fn fsck(root: &Root, device: &Path) -> anyhow::Result<Output> {
    let output = Command::new(root.path("/usr/sbin/fsck.fat")).arg("-a").arg(device).output();
    output.with_context(|| format!("running fsck.fat for {}", device.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, symlink};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn tool(name: &str) -> PathBuf {
        let found =
            ["/usr/sbin", "/sbin", "/usr/bin"].map(|directory| Path::new(directory).join(name)).into_iter().find(|path| path.exists());
        found.unwrap_or_else(|| panic!("{name} is not there: install dosfstools"))
    }

    #[test]
    fn one_that_a_starting_program_still_holds_is_not_left_mounted() {
        let alone = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let mounted = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(directory.path().to_str().unwrap());
            mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let held = fs::File::create(directory.path().join("held")).unwrap();
            assert!(mounted());
            assert_eq!(umount2(directory.path(), MntFlags::empty()), Err(Errno::EBUSY));
            detach(directory.path()).unwrap();
            assert!(!mounted());
            drop(held);
            assert_eq!(detach(directory.path()), Err(Errno::EINVAL), "it is no mount point any more");
        });
        alone.join().unwrap();
    }

    #[test]
    fn a_file_system_that_was_cut_off_is_repaired_and_a_ruin_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.path("/usr/sbin")).unwrap();
        symlink(tool("fsck.fat"), root.path("/usr/sbin/fsck.fat")).unwrap();
        let device = directory.path().join("vda1");
        fs::File::create(&device).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new(tool("mkfs.fat")).args(["-F", "32"]).arg(&device).output().unwrap();
        assert!(made.status.success());
        check(&root, &device).unwrap();

        // The bit that says "mounted" (BPB_Reserved1 of FAT32, as Linux sets it), and a copy of the table that differs.
        let file = fs::OpenOptions::new().read(true).write(true).open(&device).unwrap();
        file.write_all_at(&[1], 65).unwrap();
        let (mut reserved, mut fat_sectors) = ([0; 2], [0; 4]);
        file.read_exact_at(&mut reserved, 14).unwrap();
        file.read_exact_at(&mut fat_sectors, 36).unwrap();
        let second = (u64::from(u16::from_le_bytes(reserved)) + u64::from(u32::from_le_bytes(fat_sectors))) * 512;
        file.write_all_at(&[9; 16], second + 12).unwrap();
        check(&root, &device).unwrap();
        let mut state = [0; 1];
        file.read_exact_at(&mut state, 65).unwrap();
        assert_eq!(state[0] & 1, 0, "it is clean again");
        let again = Command::new(tool("fsck.fat")).arg("-n").arg(&device).output().unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));

        file.write_all_at(&[0; 4096], 0).unwrap();
        let error = check(&root, &device).unwrap_err();
        assert!(error.to_string().starts_with(&format!("checking {}", device.display())), "{error:#}");
    }
}
