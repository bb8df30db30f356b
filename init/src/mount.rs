//! The kernel's own file systems and where they are mounted, as tables.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("mount {what} on {target}")]
    Mount {
        what: String,
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("make the mount point {0}")]
    MountPoint(PathBuf, #[source] io::Error),
    #[error("set the propagation of {0}")]
    Propagation(PathBuf, #[source] io::Error),
}

/// A line of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    pub kind: &'static str,
    pub target: &'static str,
    pub options: &'static str,
    flags: MountFlags,
    /// Without it the boot cannot go on.
    pub needed: bool,
}

const NOTHING: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const fn needed(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static str) -> Mount {
    Mount { kind, target, options, flags, needed: true }
}

const fn useful(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static str) -> Mount {
    Mount { kind, target, options, flags, needed: false }
}

/// What stage 1 mounts; it is moved into the root.
pub const STAGE1: [Mount; 4] = [
    needed("proc", "/proc", NOTHING, ""),
    needed("sysfs", "/sys", NOTHING, ""),
    // /dev may hold devices and is never executed from; the kernel keeps one devtmpfs for all its mounts.
    needed("devtmpfs", "/dev", MountFlags::NOSUID.union(MountFlags::NOEXEC), "mode=0755,size=4m"),
    // containerd's and runc's state; executable, because runc runs its own copy from there.
    needed("tmpfs", "/run", DATA, "mode=0755,size=20%,nr_inodes=800k"),
];

/// Boot entry and tries, as systemd-boot left them.
pub const EFI_VARIABLES: Mount = useful("efivarfs", "/sys/firmware/efi/efivars", NOTHING, "");

/// What stage 2 mounts in the root.
pub const STAGE2: [Mount; 9] = [
    needed("tmpfs", "/etc", NOTHING, "mode=0755,size=64m"),
    // Until EPHEMERAL is open.
    needed("tmpfs", "/var", NOTHING, "mode=0755,size=64m"),
    needed("tmpfs", "/tmp", DATA, "mode=1777,size=10%"),
    needed("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "gid=5,mode=620,ptmxmode=666"),
    needed("tmpfs", "/dev/shm", DATA, "mode=1777,size=10%"),
    useful("mqueue", "/dev/mqueue", NOTHING, ""),
    useful("securityfs", "/sys/kernel/security", NOTHING, ""),
    useful("tracefs", "/sys/kernel/tracing", NOTHING, "mode=0700"),
    // What the kernel said last in a boot that crashed.
    useful("pstore", "/sys/fs/pstore", NOTHING, ""),
];

/// Pinned BPF programs of network plugins. Mounted while drivers are loaded.
pub const BPF: Mount = useful("bpf", "/sys/fs/bpf", NOTHING, "mode=0700");

/// The cgroup tree.
pub const CGROUPS: Mount = needed("cgroup2", "/sys/fs/cgroup", NOTHING, "nsdelegate,memory_recursiveprot");

impl Mount {
    /// Mounts it. Mounted already, by this kind: nothing happens.
    pub fn apply(&self, root: &Root) -> Result<(), Error> {
        let target = root.path(self.target);
        if is_mounted(root, self.kind, self.target) {
            return Ok(());
        }
        if !target.exists() {
            fs::create_dir(&target).map_err(|source| Error::MountPoint(target.clone(), source))?;
        }
        file_system(self.kind, self.kind.as_ref(), &target, self.flags, self.options)
    }
}

fn is_mounted(root: &Root, kind: &str, target: &str) -> bool {
    let mounts = fs::read_to_string(root.path("/proc/self/mounts")).unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(target) && fields.next() == Some(kind)
    })
}

/// Mounts the verified root, read-only.
pub fn root(device: &Path, target: &Path) -> Result<(), Error> {
    fs::create_dir_all(target).map_err(|source| Error::MountPoint(target.to_owned(), source))?;
    file_system("erofs", device, target, MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID, "")
}

/// Mounts any file system.
pub fn file_system(kind: &str, source: &Path, target: &Path, flags: MountFlags, options: &str) -> Result<(), Error> {
    let failed =
        |error: io::Error| Error::Mount { what: format!("{} ({kind})", source.display()), target: target.to_owned(), source: error };
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    mount(source, target, kind, flags, options.as_c_str()).map_err(|error| failed(error.into()))
}

/// Lets mounts below `/` be seen in namespaces made from now on, and theirs here where they ask for it: the kubelet's volumes need that.
pub fn share(path: &Path) -> Result<(), Error> {
    mount_change(path, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|source| Error::Propagation(path.to_owned(), source.into()))
}

/// In a new namespace: mounts of the old one still arrive (and vanish), but none goes back.
pub fn follow(path: &Path) -> Result<(), Error> {
    mount_change(path, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|source| Error::Propagation(path.to_owned(), source.into()))
}
