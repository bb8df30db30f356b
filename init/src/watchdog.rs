//! The hardware watchdog. init's own loop feeds it: a machine whose init no longer turns restarts. It stays armed through a restart. Stage 1
//! arms it and leaves it open for the init of the root, so that no part of a boot hangs unwatched: closing it would disarm some.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::FdFlags;

use crate::sys;

pub const DEVICE: &str = "/dev/watchdog0";
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than all that stage 1 waits for; it feeds nothing.
pub const STAGE1_TIMEOUT: Duration = Duration::from_secs(120);
pub const LEAST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the whole shutdown may take, firmware and boot loader included.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub struct Watchdog {
    device: Option<File>,
    timeout: Duration,
    /// When to feed it next.
    next: Duration,
}

impl Watchdog {
    pub fn new() -> Watchdog {
        Watchdog { device: None, timeout: DEFAULT_TIMEOUT, next: Duration::ZERO }
    }

    /// Opens and arms the device, if there is one by now. Answers the timeout that it took.
    pub fn open(&mut self, path: &Path, now: Duration) -> io::Result<Option<Duration>> {
        if self.device.is_some() {
            return Ok(None);
        }
        match inherited(path).map_or_else(|| OpenOptions::new().write(true).open(path), Ok) {
            Ok(device) => {
                self.device = Some(device);
                self.set_timeout(self.timeout, now).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the timeout. The device may round it, or know a smaller maximum; without a device it is kept for when one appears.
    pub fn set_timeout(&mut self, timeout: Duration, now: Duration) -> io::Result<Duration> {
        let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).max(1);
        self.timeout = Duration::from_secs(u64::from(seconds.unsigned_abs()));
        if let Some(device) = &self.device {
            match sys::set_watchdog_timeout(device.as_fd(), seconds) {
                Ok(taken) => self.timeout = Duration::from_secs(u64::from(taken.max(1).unsigned_abs())),
                // A device with a fixed timeout: fed often enough for any.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::ENOTTY | nix::libc::EINVAL)) => {
                    self.timeout = self.timeout.min(Duration::from_secs(15));
                }
                Err(error) => return Err(error),
            }
        }
        self.feed(now);
        Ok(self.timeout)
    }

    /// When [`Watchdog::feed`] is due; `None` without a device.
    pub fn due(&self) -> Option<Duration> {
        self.device.as_ref().map(|_| self.next)
    }

    pub fn feed(&mut self, now: Duration) {
        if let Some(device) = &mut self.device {
            // Any byte but V, which would disarm it at close.
            let _ = device.write_all(b"\0");
            self.next = now + self.timeout / 3;
        }
    }

    /// Leaves it open, armed as it is, for the program that takes this one's place.
    pub fn hand_over(&mut self) {
        if let Some(device) = self.device.take()
            && rustix::io::fcntl_setfd(&device, FdFlags::empty()).is_ok()
        {
            let _ = device.into_raw_fd();
        }
    }

    /// The machine is about to be switched off on purpose: the watchdog must not start it again.
    pub fn disarm(&mut self) {
        if let Some(mut device) = self.device.take() {
            let _ = device.write_all(b"V");
        }
    }
}

/// The device as the program before left it open; nobody else could open it.
fn inherited(path: &Path) -> Option<File> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    let leads_there = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|target| target == path);
    let number = open.filter_map(Result::ok).find(leads_there)?.file_name().to_str()?.parse().ok()?;
    let device = File::from(sys::adopt(number));
    // The programs that init starts must not have it.
    rustix::io::fcntl_setfd(&device, FdFlags::CLOEXEC).ok()?;
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stage_1_armed_goes_on_in_the_next_init() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("watchdog0");
        std::fs::write(&path, "").expect("write");
        let now = Duration::from_secs(5);
        let mut first = Watchdog::new();
        first.open(&path, now).expect("opens");
        first.hand_over();
        assert_eq!(first.due(), None);
        // Only the open file leads to it from here on: a device cannot be opened twice.
        let mut second = Watchdog::new();
        assert!(second.open(&path, now).expect("adopts").is_some());
        let links = || std::fs::read_dir("/proc/self/fd").expect("read").filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        assert_eq!(links().filter(|target| *target == path).count(), 1);
        second.disarm();
        assert_eq!(std::fs::read(&path).expect("read"), b"\0\0V");
        assert_eq!(links().filter(|target| *target == path).count(), 0);
    }

    #[test]
    fn device_is_fed_three_times_in_its_timeout() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("watchdog0");
        let mut watchdog = Watchdog::new();
        let now = Duration::from_secs(100);
        assert_eq!(watchdog.open(&path, now).expect("none is fine"), None);
        assert_eq!(watchdog.due(), None);
        watchdog.set_timeout(Duration::from_secs(9), now).expect("kept for later");

        // A plain file takes no ioctl, as a device with a fixed timeout.
        std::fs::write(&path, "").expect("write");
        assert_eq!(watchdog.open(&path, now).expect("opens"), Some(Duration::from_secs(9)));
        assert_eq!(watchdog.due(), Some(Duration::from_secs(103)));
        watchdog.feed(Duration::from_secs(103));
        assert_eq!(watchdog.due(), Some(Duration::from_secs(106)));
        watchdog.disarm();
        assert_eq!(std::fs::read(&path).expect("read"), b"\0\0V");
    }
}
