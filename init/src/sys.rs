//! The system calls that neither rustix nor nix offers as a safe function. The only file of init with `unsafe` in it: each function takes
//! and returns plain values, and checks what the kernel would otherwise read out of bounds.
#![expect(unsafe_code, reason = "ioctls, mount_setattr and the code between fork and exec have no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use rustix::thread::UnshareFlags;

/// Size of `struct dm_ioctl` (linux/dm-ioctl.h).
pub const DM_HEADER_BYTES: usize = 312;

/// Issues a device mapper ioctl: `message` is a `struct dm_ioctl` and what follows it; the kernel writes its answer over it.
pub fn device_mapper(control: BorrowedFd<'_>, command: u8, message: &mut [u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let Some(data_size) = message.get_mut(12..16).filter(|_| length as usize >= DM_HEADER_BYTES) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    data_size.copy_from_slice(&length.to_ne_bytes());
    // _IOWR(0xfd, command, struct dm_ioctl)
    let request = (3 << 30) | ((DM_HEADER_BYTES as libc::c_ulong) << 16) | (0xfd << 8) | libc::c_ulong::from(command);
    // SAFETY: the kernel reads and writes at most `data_size` bytes, which was set to the length of the buffer above.
    check(unsafe { libc::ioctl(control.as_raw_fd(), request as _, message.as_mut_ptr()) })
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

/// What to tell the kernel of one partition of a disk that is in use (linux/blkpg.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionChange {
    Add = 1,
    Resize = 3,
}

/// Adds a partition to the kernel's view of a disk, or changes one's size; other partitions of the disk may be in use. Bytes, not sectors.
pub fn change_partition(disk: BorrowedFd<'_>, change: PartitionChange, number: i32, start: i64, length: i64) -> io::Result<()> {
    const BLKPG: libc::c_ulong = 0x1269;
    let mut partition = BlkpgPartition { start, length, number, device_name: [0; 64], volume_name: [0; 64] };
    let mut argument =
        BlkpgArgument { operation: change as i32, flags: 0, length: mem::size_of::<BlkpgPartition>() as i32, data: &mut partition };
    // SAFETY: both structures outlive the call and have the layout of linux/blkpg.h.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &mut argument as *mut BlkpgArgument) })
}

/// Has the kernel read a disk's partition table anew. It refuses (EBUSY) while any of the old partitions is in use.
pub fn read_partition_table(disk: BorrowedFd<'_>) -> io::Result<()> {
    const BLKRRPART: libc::c_ulong = 0x125f;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART as _) })
}

/// The number of a loop device that nothing is attached to; the kernel makes one where there is none (loop(4), LOOP_CTL_GET_FREE).
pub fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
    // SAFETY: the request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Attaches a file to a loop device, read-only, until nobody has the device open (linux/loop.h, LOOP_CONFIGURE).
pub fn attach_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct LoopInfo {
        device: u64,
        inode: u64,
        rdevice: u64,
        offset: u64,
        size_limit: u64,
        number: u32,
        encrypt_type: u32,
        encrypt_key_size: u32,
        flags: u32,
        file_name: [u8; 64],
        crypt_name: [u8; 64],
        encrypt_key: [u8; 32],
        init: [u64; 2],
    }
    #[repr(C)]
    struct LoopConfig {
        file: u32,
        block_size: u32,
        info: LoopInfo,
        reserved: [u64; 8],
    }
    const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
    const READ_ONLY_AND_AUTOCLEAR: u32 = 1 | 4;
    // SAFETY: integers of zero are valid.
    let mut config: LoopConfig = unsafe { mem::zeroed() };
    config.file = u32::try_from(file.as_raw_fd()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    config.info.flags = READ_ONLY_AND_AUTOCLEAR;
    // SAFETY: the kernel reads a struct loop_config, whose layout `LoopConfig` has; it outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &config as *const LoopConfig) })
}

/// Tells a disk that it may forget these bytes.
pub fn discard(device: BorrowedFd<'_>, start: u64, length: u64) -> io::Result<()> {
    const BLKDISCARD: libc::c_ulong = 0x1277;
    let mut range = [start, length];
    // SAFETY: the kernel reads two u64 from the array.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD as _, range.as_mut_ptr()) })
}

/// Largest seed that [`credit_entropy`] takes.
pub const SEED_BYTES: usize = 512;

/// Feeds the kernel's random generator and counts every bit as entropy (random(4), RNDADDENTROPY).
pub fn credit_entropy(random: BorrowedFd<'_>, seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: i32,
        length: i32,
        bytes: [u8; SEED_BYTES],
    }
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    let mut info = PoolInfo { entropy_bits: SEED_BYTES as i32 * 8, length: SEED_BYTES as i32, bytes: *seed };
    // SAFETY: the kernel reads the two integers and `length` bytes behind them, all inside `info`.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &mut info as *mut PoolInfo) })
}

/// A descriptor that the program before left open for this one.
///
/// The caller has just found it among the process' own, and knows by what it stands for that nothing else here owns it.
pub fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: it is open and has no other owner, as the caller says.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Sets a watchdog's timeout and answers the one that the device took instead.
pub fn set_watchdog_timeout(device: BorrowedFd<'_>, seconds: i32) -> io::Result<i32> {
    const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
    let mut taken = seconds;
    // SAFETY: the kernel reads and writes one int.
    check(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT as _, &mut taken as *mut i32) })?;
    Ok(taken)
}

/// Has the kernel write its messages to this virtual terminal, whichever is in front (ioctl_console(2), TIOCL_SETKMSGREDIRECT).
pub fn redirect_kernel_messages(terminal: BorrowedFd<'_>, to: u8) -> io::Result<()> {
    const TIOCLINUX: libc::c_ulong = 0x541c;
    const TIOCL_SETKMSGREDIRECT: u8 = 11;
    let mut request = [TIOCL_SETKMSGREDIRECT, to];
    // SAFETY: the kernel reads the two bytes.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), TIOCLINUX as _, request.as_mut_ptr()) })
}

/// Switches a network interface up (netdevice(7)).
pub fn raise_link(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: an ifreq of zeros is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of the ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request as *mut libc::ifreq) })?;
    // SAFETY: the kernel has just written the flags, an integer, into the union.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS reads name and flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &mut request as *mut libc::ifreq) })
}

/// Whether mounts below a path may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Makes the mount at `path`, and all mounts below it, read-only or writable (mount_setattr(2)).
pub fn set_mount_access(path: &Path, access: Access) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    let (set, clear) = match access {
        Access::ReadOnly => (MOUNT_ATTR_RDONLY, 0),
        Access::ReadWrite => (0, MOUNT_ATTR_RDONLY),
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = MountAttr { set, clear, propagation: 0, user_namespace: 0 };
    // SAFETY: `path` ends with a zero byte, `attributes` has the size that is passed, both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            AT_RECURSIVE,
            &attributes as *const MountAttr,
            mem::size_of::<MountAttr>(),
        )
    };
    check(result as i32)
}

/// Gives the calling process a mount namespace of its own.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: NEWNS alone does not unshare the file descriptor table, which is what makes the call unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(())
}

/// Has `prepare` run in the child between fork and exec; its error is what `spawn` returns.
pub fn before_exec(command: &mut Command, prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: init has one thread, so the child is a full copy: no lock can be held by a thread that is gone.
    unsafe { command.pre_exec(prepare) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
