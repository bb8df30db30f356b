//! What is mounted, which mounts must go before the disk is at rest, and in which order.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

/// A line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// `major:minor` of what is mounted.
    pub device: String,
    pub target: PathBuf,
    pub kind: String,
}

/// Kernel interfaces and memory: nothing of the disk hangs on them. The installation medium is read-only, and the root lies on it.
const KEPT_BELOW: [&str; 4] = ["/proc", "/sys", "/dev", "/run/corten/medium"];
const KEPT: [&str; 4] = ["/", "/run", "/etc", "/tmp"];
/// A server that is gone would hold an ordinary unmount up for ever.
const REMOTE: [&str; 7] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse"];

/// All that is mounted, in the order in which it was.
pub fn all(mountinfo: &str) -> Vec<Mounted> {
    mountinfo.lines().filter_map(parse).collect()
}

/// What to unmount, innermost first.
pub fn unmount_order(mountinfo: &str) -> Vec<Mounted> {
    let mut mounts = all(mountinfo);
    mounts.retain(|mount| !is_kept(&mount.target));
    mounts.reverse();
    mounts
}

/// How to unmount it: what is remote is cut off, what is on the disk never is.
pub fn flags(mount: &Mounted) -> UnmountFlags {
    let kind = mount.kind.split('.').next().unwrap_or_default();
    if REMOTE.contains(&kind) { UnmountFlags::FORCE | UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW }
}

fn is_kept(target: &Path) -> bool {
    KEPT_BELOW.iter().any(|kept| target.starts_with(kept)) || KEPT.iter().any(|kept| target == Path::new(kept))
}

/// proc_pid_mountinfo(5): the device is the third field, the mount point the fifth, the kind the first behind the dash.
fn parse(line: &str) -> Option<Mounted> {
    let (before, behind) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (device, target) = (fields.next()?.to_owned(), unescape(fields.nth(1)?));
    Some(Mounted { device, target, kind: behind.split(' ').next()?.to_owned() })
}

/// Space, tab, line end and backslash are written as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let octal =
            behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_what_hangs_on_them_go_innermost_first() {
        let info = "\
21 1 254:0 / / ro - erofs /dev/dm-0 ro
22 21 0:20 / /proc rw - proc proc rw
23 21 0:5 / /dev rw - devtmpfs devtmpfs rw
24 23 0:6 / /dev/shm rw - tmpfs tmpfs rw
25 21 0:22 / /run rw - tmpfs tmpfs rw
26 21 253:6 / /state rw shared:1 - ext4 /dev/vda6 rw
27 21 253:8 / /var rw shared:2 - ext4 /dev/vda8 rw
28 27 0:40 / /var/lib/kubelet/pods/a\\040b rw shared:3 - tmpfs tmpfs rw
29 25 0:41 / /run/containerd/rootfs rw - overlay overlay rw,upperdir=/var/x
30 27 0:42 / /var/nfs rw - nfs4 server:/x rw
31 25 11:0 / /run/corten/medium ro - iso9660 /dev/sr0 ro
32 25 253:1 / /run/corten/esp rw - vfat /dev/vda1 rw
";
        let order = unmount_order(info);
        let targets: Vec<&str> = order.iter().filter_map(|mount| mount.target.to_str()).collect();
        assert_eq!(targets, ["/run/corten/esp", "/var/nfs", "/run/containerd/rootfs", "/var/lib/kubelet/pods/a b", "/var", "/state"]);
        assert_eq!(order.last().map(|mount| mount.device.as_str()), Some("253:6"));
        let detached: Vec<bool> = order.iter().map(|mount| flags(mount).contains(UnmountFlags::DETACH)).collect();
        assert_eq!(detached, [false, true, false, false, false, false]);
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert_eq!(unmount_order("\n1 2 3\na - b\n"), []);
        assert_eq!(unescape("a\\"), Path::new("a\\"));
        assert_eq!(unescape("\\13"), Path::new("\\13"));
    }
}
