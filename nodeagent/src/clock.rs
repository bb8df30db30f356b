//! Time since the boot, and the boot's name: what deadlines are kept in, because the wall clock may jump.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock_steering::unix::UnixClock;
use clock_steering::{Clock as _, TimeOffset};
use machine::Root;
use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// A clock that only goes forward. It follows tokio's, so that a test can pause it.
#[derive(Debug, Clone)]
pub struct Clock {
    pub boot_id: String,
    started: Instant,
    boot_to_start: Duration,
}

impl Clock {
    pub fn new(root: &Root) -> Clock {
        let boot_id = std::fs::read_to_string(root.path("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Clock { boot_id: boot_id.trim().to_owned(), started: Instant::now(), boot_to_start: uptime }
    }

    /// A clock that starts so long after a boot.
    #[cfg(test)]
    pub fn started_at(since_boot: Duration) -> Clock {
        Clock { boot_id: String::new(), started: Instant::now(), boot_to_start: since_boot }
    }

    pub fn since_boot(&self) -> Duration {
        self.boot_to_start + self.started.elapsed()
    }

    /// The moment that lies this long after the boot; one that has passed is now.
    pub fn at(&self, since_boot: Duration) -> Instant {
        self.started + since_boot.saturating_sub(self.boot_to_start)
    }
}

/// RFC 3339, to the second, in UTC: for people to read.
pub fn date(time: SystemTime) -> String {
    let date = OffsetDateTime::from(time);
    date.replace_nanosecond(0).unwrap_or(date).format(&Rfc3339).unwrap_or_default()
}

/// Seconds since the epoch by the wall clock: for people to read, not for deadlines.
pub fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sets the wall clock forward to a time that is known to have passed; never back. A machine without a battery and without a time server would
/// otherwise start in the past.
pub fn raise(to: SystemTime) {
    let Ok(behind) = to.duration_since(SystemTime::now()) else { return };
    let offset = TimeOffset { seconds: behind.as_secs() as i64, nanos: behind.subsec_nanos() };
    match UnixClock::CLOCK_REALTIME.step_clock(offset) {
        Ok(_) => tracing::info!("clock set forward by {} s: the config's authorities are younger than it", behind.as_secs()),
        Err(error) => tracing::error!("setting the clock forward by {} s: {error}", behind.as_secs()),
    }
}
